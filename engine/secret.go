// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
)

// Secret is a reference to a value that must not appear in a node, output, event or error:
// secret://NAME refers to a text, and secret://NAME?json to a JSON value. A reference is always
// a whole string in the configuration of a node.
type Secret string

const (
	secretScheme = "secret://"
	secretJSON   = "?json"
)

// NewSecret returns the reference to a text.
func NewSecret(name string) Secret { return Secret(secretScheme + name) }

// NewJSONSecret returns the reference to a JSON value.
func NewJSONSecret(name string) Secret { return Secret(secretScheme + name + secretJSON) }

// IsSecret reports whether a text is a reference.
func IsSecret(text string) bool {
	return len(text) > len(secretScheme) && strings.HasPrefix(text, secretScheme)
}

// Name returns the name, and whether the value is JSON.
func (s Secret) Name() (name string, isJSON bool) {
	return strings.CutSuffix(strings.TrimPrefix(string(s), secretScheme), secretJSON)
}

// Secrets returns the value of a named secret. It is called where a task runs, possibly
// concurrently. A nil Secrets has no secrets.
type Secrets func(ctx context.Context, name string) (string, error)

// value returns the value of a reference, as encoding/json decodes it.
func (s Secrets) value(ctx context.Context, secret Secret) (any, error) {
	name, isJSON := secret.Name()
	if s == nil {
		return nil, fmt.Errorf("secret %s: no secrets are available here", name)
	}
	text, err := s(ctx, name)
	if err != nil {
		return nil, fmt.Errorf("secret %s: %w", name, err)
	}
	if !isJSON {
		return text, nil
	}
	value, err := decode([]byte(text))
	if err != nil {
		return nil, fmt.Errorf("secret %s: its value is not JSON", name) // the error does not repeat the value
	}
	return value, nil
}

// Reveal replaces the references in a JSON document by their values.
func (s Secrets) Reveal(ctx context.Context, document json.RawMessage) (json.RawMessage, error) {
	return replace(document, func(v any) (any, bool, error) {
		text, ok := v.(string)
		if !ok || !IsSecret(text) {
			return nil, false, nil
		}
		value, err := s.value(ctx, Secret(text))
		return value, true, err
	})
}

// Reveal replaces the references in a JSON document from another stage by their values.
func (t *Task) Reveal(ctx context.Context, document json.RawMessage) (json.RawMessage, error) {
	return t.Secrets.Reveal(ctx, document)
}

// Conceal replaces values in a JSON document for another stage by references, namely those in the
// configuration of its node. Only a complete value of the document is replaced.
func (t *Task) Conceal(ctx context.Context, document json.RawMessage) (json.RawMessage, error) {
	references, err := t.references(ctx)
	if err != nil || len(references) == 0 {
		return document, err
	}
	return replace(document, func(v any) (any, bool, error) {
		key, err := MarshalJSON(v)
		secret, ok := references[string(key)]
		return string(secret), ok, err
	})
}

// references maps the values of references in the node to the references.
func (t *Task) references(ctx context.Context) (map[string]Secret, error) {
	found := map[Secret]bool{}
	if _, err := replace(t.Node.Config, func(v any) (any, bool, error) {
		if text, ok := v.(string); ok && IsSecret(text) {
			found[Secret(text)] = true
		}
		return nil, false, nil
	}); err != nil {
		return nil, err
	}
	out := map[string]Secret{}
	add := func(v any, secret Secret) error {
		key, err := MarshalJSON(v)
		if _, taken := out[string(key)]; !taken {
			out[string(key)] = secret
		}
		return err
	}
	for _, secret := range slices.Sorted(maps.Keys(found)) {
		v, err := t.Secrets.value(ctx, secret)
		if err != nil {
			return nil, err
		}
		if err := add(v, secret); err != nil {
			return nil, err
		}
		// A text may have been converted to the type that an option wants, such as a number.
		if text, ok := v.(string); ok {
			if v, err := decode([]byte(text)); err == nil {
				name, _ := secret.Name()
				if err := add(v, NewJSONSecret(name)); err != nil {
					return nil, err
				}
			}
		}
	}
	return out, nil
}

// replace copies a JSON document, replacing the values for which fn returns another. A document
// without references is returned unchanged.
func replace(document json.RawMessage, fn func(v any) (any, bool, error)) (json.RawMessage, error) {
	if len(document) == 0 {
		return document, nil
	}
	v, err := decode(document)
	if err != nil {
		return nil, fmt.Errorf("find secrets: %w", err)
	}
	changed := false
	var walk func(v any) (any, error)
	walk = func(v any) (any, error) {
		if other, ok, err := fn(v); ok || err != nil {
			changed = true
			return other, err
		}
		var err error
		switch v := v.(type) {
		case map[string]any:
			for _, name := range slices.Sorted(maps.Keys(v)) {
				if v[name], err = walk(v[name]); err != nil {
					return nil, err
				}
			}
		case []any:
			for i := range v {
				if v[i], err = walk(v[i]); err != nil {
					return nil, err
				}
			}
		}
		return v, nil
	}
	if v, err = walk(v); err != nil || !changed {
		return document, err
	}
	return MarshalJSON(v)
}

func decode(data []byte) (any, error) {
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.UseNumber()
	var v any
	if err := dec.Decode(&v); err != nil {
		return nil, err
	}
	if dec.More() {
		return nil, errors.New("more than one value")
	}
	return v, nil
}

// hiddenFrom is the minimum length of a value that is hidden in a text, because hiding every "3"
// or "true" would make messages unreadable.
const hiddenFrom = 6

// gate hides the secrets that were revealed to a task in everything that it reports.
type gate struct {
	mu       sync.Mutex
	revealed map[string]bool
}

// hide adds a gate to everything that the task reports from now on.
func (t *Task) hide() {
	if t.gate != nil {
		return
	}
	g := &gate{revealed: map[string]bool{}}
	if secrets := t.Secrets; secrets != nil {
		t.Secrets = func(ctx context.Context, name string) (string, error) {
			value, err := secrets(ctx, name)
			g.mu.Lock()
			defer g.mu.Unlock()
			g.revealed[value] = err == nil && len(value) >= hiddenFrom
			return value, err
		}
	}
	if report := t.Report; report != nil {
		t.Report = func(e Event) {
			e.Item, e.Message, e.Err = g.text(e.Item), g.text(e.Message), g.text(e.Err)
			report(e)
		}
	}
	t.gate = g
}

// guard is deferred by the function that runs a task, after hide. It turns a panic into an
// error, and hides secrets in errors.
func (t *Task) guard(err *error) {
	g := t.gate
	if v := recover(); v != nil {
		stack := debug.Stack()
		if told := g.text(fmt.Sprint(v)); told != fmt.Sprint(v) {
			v = told
		}
		if t.Log != nil {
			t.Log.Error("stage panicked", "panic", v, "stack", string(stack))
		}
		*err = &PanicError{Value: v, Stack: stack}
	}
	if *err != nil {
		if told := g.text((*err).Error()); told != (*err).Error() {
			*err = errors.New(told)
		}
	}
}

// text returns a text without the secrets.
func (g *gate) text(s string) string {
	g.mu.Lock()
	defer g.mu.Unlock()
	for value, hidden := range g.revealed {
		if hidden {
			s = strings.ReplaceAll(s, value, "(secret)")
		}
	}
	return s
}
