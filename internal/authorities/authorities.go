// SPDX-License-Identifier: Apache-2.0

// Package authorities reads the certificates that connections trust, for tape itself and for
// interpreters that fetch content.
package authorities

import (
	"crypto/x509"
	"fmt"

	"github.com/taped-dev/tape/internal/regular"
)

// Read returns the system's certificates and those of a PEM file. Without a file it returns
// nil, which stands for the system's.
func Read(file string) (*x509.CertPool, error) {
	if file == "" {
		return nil, nil
	}
	data, err := regular.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("read CA file: %w", err)
	}
	pool, err := x509.SystemCertPool()
	if err != nil {
		return nil, fmt.Errorf("read the system's certificates: %w", err)
	}
	if !pool.AppendCertsFromPEM(data) {
		return nil, fmt.Errorf("CA file %s holds no certificate in PEM", file)
	}
	return pool, nil
}
