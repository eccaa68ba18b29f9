// SPDX-License-Identifier: Apache-2.0

package content

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/taped-dev/tape/stages/artifact"
)

// names maps each manifest file to its name in the content. If several files would get
// the same name, the one that already has it keeps it, and the others, in order, get a
// number before the extension.
func names(list []string) map[string]string {
	var (
		out     = make(map[string]string, len(list))
		taken   = make(map[string]bool, len(list))
		renamed []string
	)
	for _, file := range list {
		if artifact.ContentName(file) == file {
			out[file], taken[file] = file, true
		} else {
			renamed = append(renamed, file)
		}
	}
	slices.Sort(renamed)
	for _, file := range renamed {
		want := artifact.ContentName(file)
		free := want
		for n := 2; taken[free]; n++ {
			ext := path.Ext(want)
			free = fmt.Sprintf("%s.%d%s", strings.TrimSuffix(want, ext), n, ext)
		}
		out[file], taken[free] = free, true
	}
	return out
}
