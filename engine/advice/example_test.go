// SPDX-License-Identifier: Apache-2.0

package advice_test

import (
	"errors"
	"fmt"

	"github.com/taped-dev/tape/engine/advice"
)

// A program says what to do in its own words.
func ExampleRender() {
	err := advice.Add(errors.New("403 Forbidden"), advice.LogInAsAnother, "registry.example.com")
	err = fmt.Errorf("pull shop: %w", err)
	fmt.Println(err)
	fmt.Println(advice.Render(err, func(a advice.Action) string {
		if a == advice.LogInAsAnother {
			return "choose another account for %s under Settings"
		}
		return "" // as it is
	}))
	// Output:
	// pull shop: 403 Forbidden; check what your account may do there, or log in to registry.example.com with another
	// pull shop: 403 Forbidden; choose another account for registry.example.com under Settings
}
