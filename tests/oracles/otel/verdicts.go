package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.opentelemetry.io/collector/component/componenttest"
	"go.opentelemetry.io/collector/confmap"
	"go.opentelemetry.io/collector/consumer"
	"go.opentelemetry.io/collector/featuregate"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/ptrace"
	"go.opentelemetry.io/collector/processor/processortest"

	tsp "github.com/open-telemetry/opentelemetry-collector-contrib/processor/tailsamplingprocessor"
)

const gatePrefix = "processor.tailsamplingprocessor."

// Case is a body of tail_sampling and the requests that arrive, all at one moment and in this order.
type Case struct {
	ID     string            `json:"id"`
	Config Section           `json:"config"`
	Gates  []string          `json:"gates"`
	Traces []json.RawMessage `json:"traces"`
	Emit   bool              `json:"emit"` // tell the tracestates of what it sends on
}

// Section has integers where its JSON has, as after reading YAML: encoding/json makes floats of all numbers.
type Section map[string]any

func (s *Section) UnmarshalJSON(raw []byte) error {
	decoder := json.NewDecoder(bytes.NewReader(raw))
	decoder.UseNumber()
	var read map[string]any
	err := decoder.Decode(&read)
	*s, _ = asFromYAML(read).(map[string]any)
	return err
}

func asFromYAML(value any) any {
	switch value := value.(type) {
	case json.Number:
		if whole, err := strconv.Atoi(value.String()); err == nil {
			return whole
		}
		number, _ := value.Float64()
		return number
	case []any:
		for at, member := range value {
			value[at] = asFromYAML(member)
		}
	case map[string]any:
		for key, member := range value {
			value[key] = asFromYAML(member)
		}
	}
	return value
}

// Decision is the last one on a trace.
type Decision struct {
	TraceID  string `json:"trace_id"`
	Decision string `json:"decision"`
	Policy   string `json:"policy,omitempty"`
}

// Answer has one of Decisions, Error (the config is refused), Unread (a request is no OTLP JSON), Crash and Hang.
type Answer struct {
	ID        string                       `json:"id,omitempty"`
	Decisions []Decision                   `json:"decisions,omitempty"`
	States    map[string]map[string]string `json:"states,omitempty"` // by trace and span id
	Error     string                       `json:"error,omitempty"`
	Unread    string                       `json:"unread,omitempty"`
	Crash     string                       `json:"crash,omitempty"`
	Hang      bool                         `json:"hang,omitempty"`
}

func answerCase(t *testing.T, line []byte) (told Answer) {
	var asked Case
	if err := json.Unmarshal(line, &asked); err != nil {
		return Answer{Error: "no case: " + err.Error()}
	}
	err := setGates(asked.Gates)
	if err == nil {
		synctest.Test(t, func(*testing.T) { told, err = run(asked) })
	}
	if err != nil {
		told = Answer{Error: err.Error()}
	}
	told.ID = asked.ID
	return told
}

func setGates(wanted []string) (err error) {
	left := map[string]bool{}
	for _, gate := range wanted {
		left[gatePrefix+strings.TrimPrefix(gate, gatePrefix)] = true
	}
	featuregate.GlobalRegistry().VisitAll(func(gate *featuregate.Gate) {
		if strings.HasPrefix(gate.ID(), gatePrefix) {
			if failed := featuregate.GlobalRegistry().Set(gate.ID(), left[gate.ID()]); failed != nil {
				err = failed
			}
			delete(left, gate.ID())
		}
	})
	for gate := range left {
		return fmt.Errorf("unknown feature gate %q", gate)
	}
	return err
}

// run is the life of one processor, on a clock that jumps when everybody waits.
func run(asked Case) (told Answer, err error) {
	config := tsp.NewFactory().CreateDefaultConfig().(*tsp.Config)
	if err = confmap.NewFromStringMap(asked.Config).Unmarshal(config); err != nil {
		return told, err
	}
	place := map[string]int{}
	decided := func(_ context.Context, id pcommon.TraceID, trace *tsp.TraceData) {
		decision := Decision{id.String(), trace.FinalDecision.String(), trace.PolicyName}
		at, again := place[decision.TraceID]
		if !again {
			at = len(told.Decisions)
			place[decision.TraceID] = at
			told.Decisions = append(told.Decisions, decision)
		}
		told.Decisions[at] = decision
	}
	config.Options = append(config.Options, tsp.WithSampledHooks(decided), tsp.WithNonSampledHooks(decided))
	sink, err := consumer.NewTraces(func(_ context.Context, sent ptrace.Traces) error {
		if asked.Emit {
			told.States = withStates(told.States, sent)
		}
		return nil
	})
	if err != nil {
		return told, err
	}
	ctx := context.Background()
	processor, err := tsp.NewFactory().CreateTraces(ctx, processortest.NewNopSettings(tsp.NewFactory().Type()), config, sink)
	if err != nil {
		return told, err
	}
	if err = processor.Start(ctx, componenttest.NewNopHost()); err != nil {
		return told, err
	}
	reader := ptrace.JSONUnmarshaler{}
	for _, request := range asked.Traces {
		traces, err := reader.UnmarshalTraces(request)
		if err != nil {
			return Answer{Unread: err.Error()}, nil
		}
		if err = processor.ConsumeTraces(ctx, traces); err != nil {
			return told, err
		}
		synctest.Wait()
	}
	// Past decision_wait in whole seconds, and the ticks around it.
	time.Sleep(config.DecisionWait.Truncate(time.Second) + 3*time.Second + 500*time.Millisecond)
	synctest.Wait()
	err = processor.Shutdown(ctx)
	synctest.Wait()
	slices.SortFunc(told.Decisions, func(a, b Decision) int { return strings.Compare(a.TraceID, b.TraceID) })
	return told, err
}

func withStates(found map[string]map[string]string, sent ptrace.Traces) map[string]map[string]string {
	if found == nil {
		found = map[string]map[string]string{}
	}
	each(sent, func(_ ptrace.ResourceSpans, _ ptrace.ScopeSpans, span ptrace.Span) {
		id := span.TraceID().String()
		if found[id] == nil {
			found[id] = map[string]string{}
		}
		found[id][span.SpanID().String()] = span.TraceState().AsRaw()
	})
	return found
}

func each(traces ptrace.Traces, visit func(ptrace.ResourceSpans, ptrace.ScopeSpans, ptrace.Span)) {
	for _, resource := range traces.ResourceSpans().All() {
		for _, scope := range resource.ScopeSpans().All() {
			for _, span := range scope.Spans().All() {
				visit(resource, scope, span)
			}
		}
	}
}
