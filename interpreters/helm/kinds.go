// SPDX-License-Identifier: Apache-2.0

package helm

import (
	"strings"

	"go.yaml.in/yaml/v3"
)

// kind is a kind of object without its version.
type kind struct{ group, name string }

func kindOf(apiVersion, name string) kind {
	group, _, found := strings.Cut(apiVersion, "/")
	if !found {
		group = "" // v1
	}
	return kind{group, name}
}

// scope is whether objects of a kind are namespaced.
type scope int

const (
	unknown scope = iota
	namespaced
	clusterWide
)

// kinds has the scopes of the kinds of Kubernetes, and of custom resources that charts use
// without defining them.
var kinds = table(map[string][2]string{ // group: namespaced kinds, cluster-scoped kinds
	"": {
		"Binding ConfigMap Endpoints Event LimitRange PersistentVolumeClaim Pod PodTemplate ReplicationController ResourceQuota Secret Service ServiceAccount",
		"ComponentStatus Namespace Node PersistentVolume",
	},
	"admissionregistration.k8s.io": {"", "MutatingAdmissionPolicy MutatingAdmissionPolicyBinding MutatingWebhookConfiguration " +
		"ValidatingAdmissionPolicy ValidatingAdmissionPolicyBinding ValidatingWebhookConfiguration"},
	"apiextensions.k8s.io":         {"", "CustomResourceDefinition"},
	"apiregistration.k8s.io":       {"", "APIService"},
	"apps":                         {"ControllerRevision DaemonSet Deployment ReplicaSet StatefulSet", ""},
	"authentication.k8s.io":        {"", "SelfSubjectReview TokenReview"},
	"authorization.k8s.io":         {"LocalSubjectAccessReview", "SelfSubjectAccessReview SelfSubjectRulesReview SubjectAccessReview"},
	"autoscaling":                  {"HorizontalPodAutoscaler", ""},
	"batch":                        {"CronJob Job", ""},
	"certificates.k8s.io":          {"PodCertificateRequest", "CertificateSigningRequest ClusterTrustBundle"},
	"coordination.k8s.io":          {"Lease LeaseCandidate", ""},
	"discovery.k8s.io":             {"EndpointSlice", ""},
	"events.k8s.io":                {"Event", ""},
	"extensions":                   {"DaemonSet Deployment Ingress NetworkPolicy ReplicaSet", "PodSecurityPolicy"},
	"flowcontrol.apiserver.k8s.io": {"", "FlowSchema PriorityLevelConfiguration"},
	"internal.apiserver.k8s.io":    {"", "StorageVersion"},
	"networking.k8s.io":            {"Ingress NetworkPolicy", "IPAddress IngressClass ServiceCIDR"},
	"node.k8s.io":                  {"", "RuntimeClass"},
	"policy":                       {"PodDisruptionBudget", "PodSecurityPolicy"},
	"rbac.authorization.k8s.io":    {"Role RoleBinding", "ClusterRole ClusterRoleBinding"},
	"resource.k8s.io":              {"ResourceClaim ResourceClaimTemplate", "DeviceClass DeviceTaintRule ResourceClass ResourceSlice"},
	"scheduling.k8s.io":            {"", "PriorityClass"},
	"storage.k8s.io":               {"CSIStorageCapacity", "CSIDriver CSINode StorageClass VolumeAttachment VolumeAttributesClass"},
	"storagemigration.k8s.io":      {"", "StorageVersionMigration"},

	"argoproj.io":                  {"AnalysisRun AnalysisTemplate AppProject Application ApplicationSet CronWorkflow EventBus EventSource Experiment Rollout Sensor Workflow WorkflowTemplate", "ClusterAnalysisTemplate ClusterWorkflowTemplate"},
	"autoscaling.k8s.io":           {"VerticalPodAutoscaler VerticalPodAutoscalerCheckpoint", ""},
	"bitnami.com":                  {"SealedSecret", ""},
	"cert-manager.io":              {"Certificate CertificateRequest Issuer", "ClusterIssuer"},
	"cilium.io":                    {"CiliumEndpoint CiliumEnvoyConfig CiliumNetworkPolicy", "CiliumClusterwideEnvoyConfig CiliumClusterwideNetworkPolicy CiliumNode"},
	"cloud.google.com":             {"BackendConfig", ""},
	"elbv2.k8s.aws":                {"TargetGroupBinding", "IngressClassParams"},
	"external-secrets.io":          {"ExternalSecret PushSecret SecretStore", "ClusterExternalSecret ClusterPushSecret ClusterSecretStore"},
	"gateway.networking.k8s.io":    {"BackendTLSPolicy GRPCRoute Gateway HTTPRoute ReferenceGrant TCPRoute TLSRoute UDPRoute", "GatewayClass"},
	"grafana.integreatly.org":      {"Grafana GrafanaAlertRuleGroup GrafanaContactPoint GrafanaDashboard GrafanaDatasource GrafanaFolder", ""},
	"helm.toolkit.fluxcd.io":       {"HelmRelease", ""},
	"k8s.cni.cncf.io":              {"NetworkAttachmentDefinition", ""},
	"keda.sh":                      {"ScaledJob ScaledObject TriggerAuthentication", "ClusterTriggerAuthentication"},
	"kustomize.toolkit.fluxcd.io":  {"Kustomization", ""},
	"kyverno.io":                   {"CleanupPolicy Policy PolicyException", "ClusterCleanupPolicy ClusterPolicy"},
	"metallb.io":                   {"BFDProfile BGPAdvertisement BGPPeer Community IPAddressPool L2Advertisement", ""},
	"monitoring.coreos.com":        {"Alertmanager AlertmanagerConfig PodMonitor Probe Prometheus PrometheusAgent PrometheusRule ScrapeConfig ServiceMonitor ThanosRuler", ""},
	"networking.gke.io":            {"FrontendConfig ManagedCertificate", ""},
	"networking.istio.io":          {"DestinationRule EnvoyFilter Gateway ProxyConfig ServiceEntry Sidecar VirtualService WorkloadEntry WorkloadGroup", ""},
	"operator.victoriametrics.com": {"VMAgent VMAlert VMAlertmanager VMCluster VMNodeScrape VMPodScrape VMProbe VMRule VMServiceScrape VMSingle VMStaticScrape VMUser", ""},
	"postgresql.cnpg.io":           {"Backup Cluster Database Pooler ScheduledBackup", "ClusterImageCatalog"},
	"projectcontour.io":            {"HTTPProxy TLSCertificateDelegation", ""},
	"route.openshift.io":           {"Route", ""},
	"secrets-store.csi.x-k8s.io":   {"SecretProviderClass", ""},
	"security.istio.io":            {"AuthorizationPolicy PeerAuthentication RequestAuthentication", ""},
	"security.openshift.io":        {"", "SecurityContextConstraints"},
	"snapshot.storage.k8s.io":      {"VolumeSnapshot", "VolumeSnapshotClass VolumeSnapshotContent"},
	"source.toolkit.fluxcd.io":     {"Bucket GitRepository HelmChart HelmRepository OCIRepository", ""},
	"telemetry.istio.io":           {"Telemetry", ""},
	"traefik.containo.us":          {"IngressRoute IngressRouteTCP IngressRouteUDP Middleware MiddlewareTCP ServersTransport TLSOption TLSStore TraefikService", ""},
	"traefik.io":                   {"IngressRoute IngressRouteTCP IngressRouteUDP Middleware MiddlewareTCP ServersTransport ServersTransportTCP TLSOption TLSStore TraefikService", ""},
	"velero.io":                    {"Backup BackupStorageLocation Restore Schedule VolumeSnapshotLocation", ""},
})

func table(rows map[string][2]string) map[kind]scope {
	out := map[kind]scope{}
	for group, row := range rows {
		for i, s := range []scope{namespaced, clusterWide} {
			for name := range strings.FieldsSeq(row[i]) {
				out[kind{group, name}] = s
			}
		}
	}
	return out
}

// definition holds the fields of a CustomResourceDefinition that give its scope.
type definition struct {
	Kind string
	Spec struct {
		Group string
		Names struct{ Kind string }
		Scope string
	}
}

// defined returns the scopes of the kinds that documents define. Documents that do not
// parse are ignored.
func defined(docs []string) map[kind]scope {
	out := map[kind]scope{}
	for _, text := range docs {
		dec := yaml.NewDecoder(strings.NewReader(text))
		for {
			var d definition
			if err := dec.Decode(&d); err != nil {
				break
			}
			if d.Kind != "CustomResourceDefinition" {
				continue
			}
			switch k := (kind{d.Spec.Group, d.Spec.Names.Kind}); d.Spec.Scope {
			case "Namespaced":
				out[k] = namespaced
			case "Cluster":
				out[k] = clusterWide
			}
		}
	}
	return out
}
