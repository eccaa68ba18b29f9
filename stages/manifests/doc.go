// SPDX-License-Identifier: Apache-2.0

// Package manifests holds what stages say of rendered Kubernetes manifests.
package manifests
