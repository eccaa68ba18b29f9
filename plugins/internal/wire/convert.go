// SPDX-License-Identifier: Apache-2.0

package wire

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strings"
	"unicode/utf8"

	"github.com/taped-dev/tape/plugins/internal/interpreterpb"
	"github.com/taped-dev/tape/plugins/interpreter"
)

// Protobuf strings must be UTF-8. Invalid names are rejected (checkText); invalid text for
// people is repaired (text).
func checkText(what, s string) error {
	if !utf8.ValidString(s) {
		return fmt.Errorf("%s %q is not valid UTF-8", what, s)
	}
	return nil
}

func text(s string) string { return strings.ToValidUTF8(s, "\uFFFD") }

// each converts every element of a list.
func each[A, B any](list []A, convert func(A) B) []B {
	var out []B
	for _, a := range list {
		out = append(out, convert(a))
	}
	return out
}

func descriptionToProto(d interpreter.Description) *interpreterpb.DescribeResponse {
	return &interpreterpb.DescribeResponse{
		Name:          text(d.Name),
		Version:       text(d.Version),
		Help:          text(d.Help),
		OptionsSchema: text(string(d.Options)),
		Environment:   each(d.Environment, text),
		Network:       d.Network,
		References:    each(d.References, text),
		Markers: each(d.Markers, func(m interpreter.Marker) *interpreterpb.Marker {
			return &interpreterpb.Marker{Name: text(m.Name), File: m.File, Above: m.Above, With: text(m.With)}
		}),
	}
}

func descriptionFromProto(d *interpreterpb.DescribeResponse) interpreter.Description {
	return interpreter.Description{
		Name:        d.GetName(),
		Version:     d.GetVersion(),
		Help:        d.GetHelp(),
		Options:     rawJSON(d.GetOptionsSchema()),
		Environment: d.GetEnvironment(),
		Network:     d.GetNetwork(),
		References:  d.GetReferences(),
		Markers: each(d.GetMarkers(), func(m *interpreterpb.Marker) interpreter.Marker {
			return interpreter.Marker{Name: m.GetName(), File: m.GetFile(), Above: m.GetAbove(), With: m.GetWith()}
		}),
	}
}

func rawJSON(s string) json.RawMessage {
	if s == "" {
		return nil
	}
	return json.RawMessage(s)
}

func renderRequestToProto(r *interpreter.RenderRequest) (*interpreterpb.RenderRequest, error) {
	err := errors.Join(
		checkText("source", r.Source),
		checkText("path", r.Path),
		checkText("reference", r.Reference),
		checkText("options", string(r.Options)),
		checkText("scratch folder", r.Scratch),
	)
	if err != nil {
		return nil, err
	}
	out := &interpreterpb.RenderRequest{
		Source:    r.Source,
		Path:      r.Path,
		Reference: r.Reference,
		Options:   string(r.Options),
		Scratch:   r.Scratch,
		Materials: each(r.Materials, materialToProto),
	}
	if reg := r.Registries; reg != nil {
		err := errors.Join(checkText("folder of registry hosts", reg.HostsDir), checkText("file of certificates", reg.CAFile))
		if err != nil {
			return nil, err
		}
		out.Registries = &interpreterpb.Registries{HostsDir: reg.HostsDir, PlainHttp: each(reg.PlainHTTP, text), CaFile: reg.CAFile}
	}
	return out, nil
}

func renderRequestFromProto(r *interpreterpb.RenderRequest) *interpreter.RenderRequest {
	out := &interpreter.RenderRequest{
		Source:    r.GetSource(),
		Path:      r.GetPath(),
		Reference: r.GetReference(),
		Options:   rawJSON(r.GetOptions()),
		Scratch:   r.GetScratch(),
		Materials: each(r.GetMaterials(), materialFromProto),
	}
	if reg := r.GetRegistries(); reg != nil {
		out.Registries = &interpreter.Registries{HostsDir: reg.GetHostsDir(), PlainHTTP: reg.GetPlainHttp(), CAFile: reg.GetCaFile()}
	}
	return out
}

func materialToProto(m interpreter.Material) *interpreterpb.Material {
	return &interpreterpb.Material{Uri: text(m.URI), Digest: text(m.Digest)}
}

func materialFromProto(m *interpreterpb.Material) interpreter.Material {
	return interpreter.Material{URI: m.GetUri(), Digest: m.GetDigest()}
}

func diagnosticToProto(d interpreter.Diagnostic) *interpreterpb.Diagnostic {
	out := &interpreterpb.Diagnostic{
		Severity: interpreterpb.Severity_SEVERITY_ERROR,
		Summary:  text(d.Summary),
		Detail:   text(d.Detail),
		File:     text(d.File),
		Line:     position(d.Line),
		Column:   position(d.Column),
	}
	switch d.Severity {
	case interpreter.Warning:
		out.Severity = interpreterpb.Severity_SEVERITY_WARNING
	case interpreter.Info:
		out.Severity = interpreterpb.Severity_SEVERITY_INFO
	}
	return out
}

func diagnosticFromProto(d *interpreterpb.Diagnostic) interpreter.Diagnostic {
	out := interpreter.Diagnostic{
		Severity: interpreter.Error,
		Summary:  d.GetSummary(),
		Detail:   d.GetDetail(),
		File:     d.GetFile(),
		Line:     int(min(d.GetLine(), math.MaxInt32)),
		Column:   int(min(d.GetColumn(), math.MaxInt32)),
	}
	switch d.GetSeverity() {
	case interpreterpb.Severity_SEVERITY_WARNING:
		out.Severity = interpreter.Warning
	case interpreterpb.Severity_SEVERITY_INFO:
		out.Severity = interpreter.Info
	}
	return out
}

// position converts a line or column. Values out of range become 0, unknown.
func position(n int) uint32 {
	if n < 0 || n > math.MaxInt32 {
		return 0
	}
	return uint32(n)
}
