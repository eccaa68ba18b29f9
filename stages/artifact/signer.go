// SPDX-License-Identifier: Apache-2.0

package artifact

import (
	"cmp"
	"crypto/x509"
	"encoding/asn1"
	"fmt"
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
func newViewSigner(keyHint string, certificate []byte) ViewSigner {
	s := ViewSigner{KeyHint: keyHint}
	cert, err := x509.ParseCertificate(certificate)
	if err != nil {
		return s
	}
	switch {
	case len(cert.URIs) > 0:
		s.Identity = cert.URIs[0].String()
	case len(cert.EmailAddresses) > 0:
		s.Identity = cert.EmailAddresses[0]
	}
	for _, extension := range cert.Extensions {
		if extension.Id.Equal(asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 57264, 1, 8}) { // Fulcio's issuer
			if _, err := asn1.Unmarshal(extension.Value, &s.Issuer); err != nil {
				s.Issuer = ""
			}
		}
	}
	return s
}
