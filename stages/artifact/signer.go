// SPDX-License-Identifier: Apache-2.0

package artifact

import (
	"cmp"
	"crypto/x509"
	"fmt"

	"github.com/sigstore/sigstore-go/pkg/fulcio/certificate"
)

// ViewSigner is who signed a bundle, as that says; it is not verified.
type ViewSigner struct {
	KeyHint string `json:"keyHint"`
	// Identity is the identity in the certificate, and Issuer its issuer; "" if it was signed
	// with a key.
	Identity string `json:"identity,omitempty"`
	Issuer   string `json:"issuer,omitempty"`
}

// By names the signer.
func (s ViewSigner) By() string {
	if s.Identity != "" {
		return fmt.Sprintf("%s (of %s)", s.Identity, cmp.Or(s.Issuer, "an unknown issuer"))
	}
	return "key " + cmp.Or(s.KeyHint, "unknown")
}

// newViewSigner reads the certificate of a bundle, if it has one.
func newViewSigner(keyHint string, der []byte) ViewSigner {
	s := ViewSigner{KeyHint: keyHint}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return s
	}
	if summary, err := certificate.SummarizeCertificate(cert); err == nil {
		s.Identity, s.Issuer = summary.SubjectAlternativeName, summary.Issuer
	}
	return s
}
