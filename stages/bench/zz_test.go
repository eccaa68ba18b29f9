//go:build bench
package bench
import ("testing";"time";"github.com/taped-dev/tape/engine/registry/registrytest";"net/http")
func TestZZ(t *testing.T){
	for name, reg := range map[string]func() http.Handler{"mem": func() http.Handler { return registrytest.Distribution("") }, "fs": func() http.Handler { return registrytest.Distribution(t.TempDir()) }, "ggcr": registrytest.GGCR} {
		l := newLab(t, 100, registrytest.Image{Layers: []int64{20_000, 8_000}, Inline: 1, Signatures: 1})
		l.dst.Store(h{reg()})
		l.delay(20*time.Millisecond)
		a := l.crane(t, 8)
		b := l.tape(t, "package", l.manifests, "-O", l.dstAddr+"/tape")
		l.delay(0)
		c := l.tape(t, "package", l.manifests, "-O", l.dstAddr+"/tape")
		t.Logf("%s small crane %v/%v/%d tape %v/%v/%d %d again %v/%v/%d", name, a.Wall,a.CPU, a.requests, b.Wall,b.CPU,b.requests, b.Memory>>20, c.Wall,c.CPU,c.requests)
		l = newLab(t, 12, registrytest.Image{Layers: []int64{4_500_000, 2_000_000, 375_000}, Inline: 1, Signatures: 1})
		l.dst.Store(h{reg()})
		a = l.crane(t, 1)
		b = l.tape(t, "package", l.manifests, "-O", l.dstAddr+"/tape")
		t.Logf("%s large crane %v/%v/%d tape %v/%v/%d %d", name, a.Wall,a.CPU, a.requests, b.Wall,b.CPU,b.requests, b.Memory>>20)
	}
}
