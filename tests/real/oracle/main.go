// The Datadog agent's own code as a judge of ours: bytes on stdin, JSON on stdout. What each command reads and tells
// is said in __init__.py.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"math"
	"os"

	"go.opentelemetry.io/collector/component/componenttest"
	"go.opentelemetry.io/collector/pdata/ptrace"

	"github.com/DataDog/datadog-agent/pkg/obfuscate"
	"github.com/DataDog/datadog-agent/pkg/opentelemetry-mapping-go/otlp/attributes"
	"github.com/DataDog/datadog-agent/pkg/trace/config"
)

type options struct {
	hostname, env  string
	topLevelByKind bool
	obfuscate      bool
}

var commands = map[string]func([]byte, options) (any, error){
	"spans":       convertedSpans,
	"processed":   processedSpans,
	"received":    receivedSpans,
	"traces":      agentPayload,
	"v04":         version4,
	"v07":         version7,
	"stats":       statsPayload,
	"clientstats": clientStatsPayload,
	"concentrate": concentrated,
	"tables":      tables,
}

func main() {
	var given options
	flag.StringVar(&given.hostname, "hostname", "", "the agent's own, for spans that name none")
	flag.StringVar(&given.env, "env", "none", "the agent's own, for spans that name none")
	flag.BoolVar(&given.topLevelByKind, "top-level-by-kind", false, "the Collector's way, not the agent's")
	flag.BoolVar(&given.obfuscate, "obfuscate", false, "all that the agent obfuscates by default")
	flag.Parse()
	if err := run(flag.Arg(0), given); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(name string, given options) error {
	command, known := commands[name]
	if !known {
		return fmt.Errorf("no command %q", name)
	}
	body, err := io.ReadAll(os.Stdin)
	if err != nil {
		return err
	}
	told, err := command(body, given)
	if err != nil {
		return err
	}
	out := json.NewEncoder(os.Stdout)
	out.SetEscapeHTML(false)
	return out.Encode(told)
}

// The newest agent's defaults: version 2 of operation and resource names, statistics by span kind, peer tags.
func agentConfig(given options) (*config.AgentConfig, error) {
	translator, err := attributes.NewTranslator(componenttest.NewNopTelemetrySettings())
	if err != nil {
		return nil, err
	}
	conf := config.New()
	conf.Hostname = given.hostname
	conf.DefaultEnv = given.env
	conf.OTLPReceiver.AttributesTranslator = translator
	if given.topLevelByKind {
		conf.Features["enable_otlp_compute_top_level_by_span_kind"] = struct{}{}
	}
	if given.obfuscate {
		// The agent's program has these on (pkg/config/setup/apm.go), its library has not.
		conf.Obfuscation = &config.ObfuscationConfig{
			ES:          obfuscate.JSONConfig{Enabled: true},
			OpenSearch:  obfuscate.JSONConfig{Enabled: true},
			Mongo:       obfuscate.JSONConfig{Enabled: true},
			Redis:       obfuscate.RedisConfig{Enabled: true},
			Valkey:      obfuscate.ValkeyConfig{Enabled: true},
			Memcached:   obfuscate.MemcachedConfig{Enabled: true},
			CreditCards: obfuscate.CreditCardsConfig{Enabled: true},
		}
	}
	return conf, nil
}

func otlp(body []byte) (ptrace.Traces, error) {
	return (&ptrace.ProtoUnmarshaler{}).UnmarshalTraces(body)
}

// JSON has no infinity: in their place stands the word, which Python's float() reads.
func number(value float64) any {
	if math.IsNaN(value) || math.IsInf(value, 0) {
		return fmt.Sprint(value)
	}
	return value
}
