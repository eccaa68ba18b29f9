// SPDX-License-Identifier: Apache-2.0

package registry

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/time/rate"
)

// pace is the share of a limit that is used. Requests leave evenly spaced, but networks and the
// schedulers of two machines change the spacing: some requests are counted in the next window
// of a quota. Without the margin they would be refused.
const pace = 0.95

// Rate is the largest number of requests per second that a host is sent.
type Rate float64

// UnmarshalText implements [encoding.TextUnmarshaler]. It parses a number of requests per second
// or minute: "300/s", "100/m".
func (r *Rate) UnmarshalText(text []byte) error {
	number, unit, _ := strings.Cut(string(text), "/")
	seconds := map[string]Rate{"s": 1, "m": 60}[unit]
	requests, err := strconv.ParseUint(number, 10, 31)
	if err != nil || requests == 0 || seconds == 0 {
		return fmt.Errorf("rate %q: want a number of requests a second or a minute, such as 300/s or 100/m", text)
	}
	*r = Rate(requests) / seconds
	return nil
}

// Limits are rates by host, as in references, with the port if there is one. docker.io means
// its host, registry-1.docker.io.
type Limits map[string]Rate

// ParseLimit parses a host and its rate: "registry.example.com=300/s".
func ParseLimit(text string) (host string, limit Rate, err error) {
	host, number, ok := strings.Cut(text, "=")
	if !ok || host == "" || strings.ContainsAny(host, "/ ") {
		return "", 0, fmt.Errorf("limit %q: want HOST=N/s, such as registry.example.com=300/s", text)
	}
	if err := limit.UnmarshalText([]byte(number)); err != nil {
		return "", 0, fmt.Errorf("limit of %s: %w", host, err)
	}
	return host, limit, nil
}

// Share returns the limits of one of n processes that share them.
func (l Limits) Share(n int) Limits {
	shares := make(Limits, len(l))
	for host, limit := range l {
		shares[host] = limit / Rate(max(n, 1))
	}
	return shares
}

// Limit sets the limits of hosts for later requests; those of other hosts are unchanged. A
// client starts with those of [Options.Limits].
func (c *Client) Limit(limits Limits) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for host, limit := range limits {
		name, used := limitedHost(host), rate.Limit(limit*pace)
		if budget, ok := c.budgets[name]; ok {
			budget.SetLimit(used)
			continue
		}
		// A request that could have left earlier is not made up for: two at once would be one too
		// many in a window of a quota that other processes use as well.
		c.budgets[name] = rate.NewLimiter(used, 1)
	}
}

// await waits until the limit of a host, if it has one, allows a request.
func (c *Client) await(ctx context.Context, host string) error {
	c.mu.Lock()
	budget, ok := c.budgets[limitedHost(host)]
	c.mu.Unlock()
	if !ok {
		return nil
	}
	turn := budget.Reserve()
	wait := turn.Delay()
	if wait == 0 {
		return nil
	}
	if err := sleep(ctx, wait); err != nil {
		turn.Cancel()
		return &limitedError{host: host, cause: err}
	}
	return nil
}

// limitedError is the error of a request that was given up while it waited for the limit of its
// host.
type limitedError struct {
	host  string
	cause error
}

func (e *limitedError) Error() string {
	return "the request was waiting for the limit of " + e.host
}

func (e *limitedError) Unwrap() error { return e.cause }

// limitedHost returns the canonical name of a host for limits, without the default port and in
// lower case.
func limitedHost(host string) string {
	host = strings.ToLower(host)
	host = strings.TrimSuffix(strings.TrimSuffix(host, ":443"), ":80")
	if host == hubName || host == "index.docker.io" {
		return hubHost
	}
	return host
}
