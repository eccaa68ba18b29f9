// SPDX-License-Identifier: Apache-2.0

package scan

import (
	"strings"

	"github.com/taped-dev/tape/stages/manifests"
)

// Reasons why an object must not be edited.
const (
	bySops     = "sops sealed it: any edit breaks its MAC, and it could not be decrypted; write the image by digest before sealing it, or seal it with mac_only_encrypted"
	bySigstore = "it is signed as it is (cosign.sigstore.dev/signature); write the image by digest before signing it"
)

// sealed returns the reason why an object must not be edited, or "".
//
// The MAC of sops covers all values, including those that are not encrypted, unless
// mac_only_encrypted is set. A signature of kubectl sigstore contains the whole object, and the
// admission controller compares the two.
func sealed(o *manifests.Node) string {
	if sops := o.Get("sops"); sops.Get("mac") != nil && !isTrue(sops.Get("mac_only_encrypted")) {
		return bySops
	}
	if annotations := o.Get("metadata").Get("annotations"); annotations.Get("cosign.sigstore.dev/message") != nil && annotations.Get("cosign.sigstore.dev/signature") != nil {
		return bySigstore
	}
	return ""
}

// sealedText is like sealed, for a file of variables as sops writes it.
func sealedText(s string) string {
	if strings.Contains(s, "\nsops_mac=") && !strings.Contains(s, "\nsops_mac_only_encrypted=true") {
		return bySops
	}
	return ""
}

func isTrue(n *manifests.Node) bool {
	return n != nil && n.Kind == manifests.Scalar && n.Value == "true"
}
