// SPDX-License-Identifier: Apache-2.0

package durable

import (
	"bytes"
	"strings"
	"testing"

	common "go.temporal.io/api/common/v1"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/temporal"
	"google.golang.org/protobuf/proto"
)

func sealed(t *testing.T, key string) (*sealing, converter.DataConverter) {
	t.Helper()
	codec, err := newSealing(strings.Repeat(key, keySize))
	if err != nil {
		t.Fatal(err)
	}
	return codec, converter.NewCodecDataConverter(converter.GetDefaultDataConverter(), codec)
}

// TestSealing checks that Temporal cannot read payloads and errors, and that only the key
// decrypts them.
func TestSealing(t *testing.T) {
	const secret = "hunter2"
	codec, data := sealed(t, "ab")
	one, err := data.ToPayloads(secret)
	if err != nil {
		t.Fatal(err)
	}
	two, err := data.ToPayloads(secret)
	if err != nil {
		t.Fatal(err)
	}
	if proto.Equal(one, two) {
		t.Error("the same text is encrypted alike twice")
	}
	failure := failures(data, true).ErrorToFailure(temporal.NewApplicationError("pull "+secret, unavailable, secret))
	for _, m := range []proto.Message{one, failure} {
		wire, err := proto.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Contains(wire, []byte(secret)) {
			t.Errorf("Temporal is told: %v", m)
		}
	}
	var got string
	if err := data.FromPayloads(one, &got); err != nil || got != secret {
		t.Errorf("read %q, %v", got, err)
	}
	if err := failures(data, true).FailureToError(failure); !strings.Contains(err.Error(), "pull "+secret) {
		t.Errorf("the error reads %q", err)
	}

	_, other := sealed(t, "cd")
	if err := other.FromPayloads(one, &got); err == nil || !strings.Contains(err.Error(), "another payload key") {
		t.Errorf("with another key: %v", err)
	}
	open, err := converter.GetDefaultDataConverter().ToPayloads(secret)
	if err != nil {
		t.Fatal(err)
	}
	if err := data.FromPayloads(open, &got); err == nil || !strings.Contains(err.Error(), "not encrypted") {
		t.Errorf("without a key: %v", err)
	}
	for name, change := range map[string]func(p *common.Payload){
		"changed": func(p *common.Payload) { p.Data[len(p.Data)-1] ^= 1 },
		"short":   func(p *common.Payload) { p.Data = p.Data[:5] },
		"empty":   func(p *common.Payload) { p.Data = nil },
	} {
		p := proto.Clone(one.Payloads[0]).(*common.Payload)
		change(p)
		if _, err := codec.Decode([]*common.Payload{p}); err == nil || !strings.Contains(err.Error(), "damaged") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestPayloadKey(t *testing.T) {
	for _, text := range []string{"", "ab", strings.Repeat("ab", 31), strings.Repeat("ab", 33), strings.Repeat("xy", 32)} {
		if _, err := newSealing(text); err == nil || text != "" && strings.Contains(err.Error(), text) {
			t.Errorf("%q: %v", text, err)
		}
	}
}
