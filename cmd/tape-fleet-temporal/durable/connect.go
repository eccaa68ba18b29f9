// SPDX-License-Identifier: Apache-2.0

package durable

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"time"

	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/contrib/envconfig"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/log"
	"go.temporal.io/sdk/temporal"

	"github.com/taped-dev/tape/cmd/tape/cli"
)

// clientOptions returns the options from flags, the environment and Temporal's own
// configuration file, in this order of precedence.
func clientOptions(flags cli.EngineFlags, env envconfig.EnvLookup) (client.Options, error) {
	profile, err := envconfig.LoadClientConfigProfile(envconfig.LoadClientConfigProfileOptions{EnvLookup: env})
	if err != nil {
		return client.Options{}, fmt.Errorf("read Temporal's configuration: %w", err)
	}
	profile.Address = cmp.Or(flags.Address, profile.Address, client.DefaultHostPort)
	profile.Namespace = cmp.Or(flags.Namespace, profile.Namespace)
	if flags.APIKeyFrom != "" {
		if profile.APIKey, err = readSecret(flags.APIKeyFrom); err != nil {
			return client.Options{}, fmt.Errorf("read the API key of Temporal: %w", err)
		}
	}
	if flags.CAFile != "" || flags.Cert != "" || flags.Key != "" {
		if profile.TLS == nil {
			profile.TLS = &envconfig.ClientConfigTLS{}
		}
		t := profile.TLS
		t.Disabled = false
		if flags.CAFile != "" {
			t.ServerCACertPath, t.ServerCACertData = flags.CAFile, nil
		}
		if flags.Cert != "" {
			t.ClientCertPath, t.ClientCertData = flags.Cert, nil
		}
		if flags.Key != "" {
			t.ClientKeyPath, t.ClientKeyData = flags.Key, nil
		}
	}
	o, err := profile.ToClientOptions(envconfig.ToClientOptionsRequest{})
	if err != nil {
		return client.Options{}, fmt.Errorf("read Temporal's configuration: %w", err)
	}
	o.DataConverter = converter.GetDefaultDataConverter()
	if flags.PayloadKey != "" {
		text, err := readSecret(flags.PayloadKey)
		if err != nil {
			return client.Options{}, fmt.Errorf("read the payload key: %w", err)
		}
		codec, err := newSealing(text)
		if err != nil {
			return client.Options{}, fmt.Errorf("read the payload key: %w", err)
		}
		o.DataConverter = converter.NewCodecDataConverter(o.DataConverter, codec)
	}
	o.FailureConverter = failures(o.DataConverter, flags.PayloadKey != "")
	return o, nil
}

// failures returns a converter for errors, which encrypts their texts if sealed is set.
func failures(data converter.DataConverter, sealed bool) converter.FailureConverter {
	return temporal.NewDefaultFailureConverter(temporal.DefaultFailureConverterOptions{DataConverter: data, EncodeCommonAttributes: sealed})
}

// again is the delay between attempts to reach Temporal.
const again = time.Second

// connect connects to Temporal. If patient is set, it retries until ctx ends.
func connect(ctx context.Context, o client.Options, logger *slog.Logger, patient bool) (client.Client, error) {
	o.Logger = log.NewStructuredLogger(logger)
	for {
		c, err := client.DialContext(ctx, o)
		if err == nil {
			return c, nil
		}
		err = fmt.Errorf("reach Temporal at %s: %w", o.HostPort, err)
		if cause := context.Cause(ctx); cause != nil {
			return nil, cause
		}
		if !patient {
			return nil, err
		}
		logger.Warn(err.Error())
		select {
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-time.After(again):
		}
	}
}
