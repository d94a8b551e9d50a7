package main

import (
	"context"
	"fmt"
	"net/http"

	"github.com/DataDog/datadog-go/v5/statsd"

	gzip "github.com/DataDog/datadog-agent/comp/trace/compression/impl-gzip"
	pb "github.com/DataDog/datadog-agent/pkg/proto/pbgo/trace"
	"github.com/DataDog/datadog-agent/pkg/trace/agent"
	"github.com/DataDog/datadog-agent/pkg/trace/api"
	"github.com/DataDog/datadog-agent/pkg/trace/info"
	"github.com/DataDog/datadog-agent/pkg/trace/telemetry"
	"github.com/DataDog/datadog-agent/pkg/trace/traceutil"
	"github.com/DataDog/datadog-agent/pkg/trace/transform"
	"github.com/DataDog/datadog-agent/pkg/trace/writer"
)

// OTLP TracesData: each span as the agent's transform makes it, in their order, and its marks of top level.
func convertedSpans(body []byte, given options) (any, error) {
	conf, err := agentConfig(given)
	if err != nil {
		return nil, err
	}
	traces, err := otlp(body)
	if err != nil {
		return nil, err
	}
	spans := []*pb.Span{}
	byTrace := map[uint64]pb.Trace{}
	for _, resource := range traces.ResourceSpans().All() {
		for _, scope := range resource.ScopeSpans().All() {
			for _, span := range scope.Spans().All() {
				made := transform.OtelSpanToDDSpan(span, resource.Resource(), scope.Scope(), conf)
				spans = append(spans, made)
				byTrace[made.TraceID] = append(byTrace[made.TraceID], made)
			}
		}
	}
	if !given.topLevelByKind {
		for _, trace := range byTrace {
			traceutil.ComputeTopLevel(trace)
		}
	}
	return allOf(spans, span), nil
}

// A v0.4 body through everything that the agent does to it: what its writer is given.
func processedSpans(body []byte, given options) (any, error) {
	var traces pb.Traces
	if rest, err := traces.UnmarshalMsg(body); err != nil || len(rest) > 0 {
		return nil, fmt.Errorf("no v0.4 body: %w, %d bytes left over", err, len(rest))
	}
	payload := &pb.TracerPayload{Env: given.env}
	for _, trace := range traces {
		payload.Chunks = append(payload.Chunks, &pb.TraceChunk{Priority: 2, Spans: trace, Tags: map[string]string{}})
	}
	received := &api.Payload{Source: &info.TagStats{Stats: info.NewStats()}, TracerPayload: payload}
	return throughAgent(given, func(*agent.Agent) error { return nil }, received)
}

// OTLP TracesData into the agent's receiver and out of its writer.
func receivedSpans(body []byte, given options) (any, error) {
	traces, err := otlp(body)
	if err != nil {
		return nil, err
	}
	return throughAgent(given, func(running *agent.Agent) error {
		for _, resource := range traces.ResourceSpans().All() {
			_, err := running.OTLPReceiver.ReceiveResourceSpans(context.Background(), resource, http.Header{}, nil)
			if err != nil {
				return err
			}
		}
		return nil
	})
}

func throughAgent(given options, receive func(*agent.Agent) error, payloads ...*api.Payload) (any, error) {
	conf, err := agentConfig(given)
	if err != nil {
		return nil, err
	}
	conf.Endpoints[0].APIKey = "none"
	conf.TraceBuffer = 10_000 // all of what is received waits there
	running := agent.NewAgent(
		context.Background(), conf, telemetry.NewNoopCollector(), &statsd.NoOpClient{}, gzip.NewComponent())
	kept := &keeper{}
	running.TraceWriter = kept
	if err := receive(running); err != nil {
		return nil, err
	}
	for len(running.In) > 0 {
		payloads = append(payloads, <-running.In)
	}
	for _, payload := range payloads {
		running.Process(payload)
	}
	return allOf(kept.payloads, tracerPayload), nil
}

type keeper struct{ payloads []*pb.TracerPayload }

func (k *keeper) WriteChunks(sampled *writer.SampledChunks) {
	k.payloads = append(k.payloads, sampled.TracerPayload)
}
func (*keeper) Stop()                       {}
func (*keeper) FlushSync() error            { return nil }
func (*keeper) UpdateAPIKey(string, string) {}

// The body of /api/v0.2/traces.
func agentPayload(body []byte, _ options) (any, error) {
	payload := &pb.AgentPayload{}
	if err := payload.UnmarshalVT(body); err != nil {
		return nil, err
	}
	if left := payload.ProtoReflect().GetUnknown(); len(left) > 0 {
		return nil, fmt.Errorf("%d bytes of fields that no agent knows", len(left))
	}
	return map[string]any{
		"hostname":             payload.HostName,
		"env":                  payload.Env,
		"tags":                 payload.Tags,
		"agent_version":        payload.AgentVersion,
		"target_tps":           number(payload.TargetTPS),
		"error_tps":            number(payload.ErrorTPS),
		"rare_sampler_enabled": payload.RareSamplerEnabled,
		"tracer_payloads":      allOf(payload.TracerPayloads, tracerPayload),
		"idx_tracer_payloads":  len(payload.IdxTracerPayloads),
	}, nil
}

func version4(body []byte, _ options) (any, error) {
	var traces pb.Traces
	if rest, err := traces.UnmarshalMsg(body); err != nil || len(rest) > 0 {
		return nil, fmt.Errorf("no v0.4 body: %w, %d bytes left over", err, len(rest))
	}
	return allOf(traces, func(trace pb.Trace) any { return allOf(trace, span) }), nil
}

func version7(body []byte, _ options) (any, error) {
	payload := &pb.TracerPayload{}
	if rest, err := payload.UnmarshalMsg(body); err != nil || len(rest) > 0 {
		return nil, fmt.Errorf("no v0.7 body: %w, %d bytes left over", err, len(rest))
	}
	return tracerPayload(payload), nil
}

func tracerPayload(payload *pb.TracerPayload) any {
	return map[string]any{
		"container_id":     payload.ContainerID,
		"language_name":    payload.LanguageName,
		"language_version": payload.LanguageVersion,
		"tracer_version":   payload.TracerVersion,
		"runtime_id":       payload.RuntimeID,
		"tags":             payload.Tags,
		"env":              payload.Env,
		"hostname":         payload.Hostname,
		"app_version":      payload.AppVersion,
		"chunks":           allOf(payload.Chunks, chunk),
	}
}

func chunk(each *pb.TraceChunk) any {
	return map[string]any{
		"priority":      each.Priority,
		"origin":        each.Origin,
		"tags":          each.Tags,
		"dropped_trace": each.DroppedTrace,
		"spans":         allOf(each.Spans, span),
	}
}

// As in a body of v0.4: all fields, but of those that are rare only what is there.
func span(each *pb.Span) any {
	metrics := map[string]any{}
	for key, value := range each.Metrics {
		metrics[key] = number(value)
	}
	meta := each.Meta
	if meta == nil {
		meta = map[string]string{}
	}
	told := map[string]any{
		"service": each.Service, "name": each.Name, "resource": each.Resource, "type": each.Type,
		"trace_id": each.TraceID, "span_id": each.SpanID, "parent_id": each.ParentID,
		"start": each.Start, "duration": each.Duration, "error": each.Error,
		"meta": meta, "metrics": metrics,
	}
	if len(each.MetaStruct) > 0 {
		told["meta_struct"] = each.MetaStruct
	}
	if len(each.SpanLinks) > 0 {
		told["span_links"] = each.SpanLinks
	}
	if len(each.SpanEvents) > 0 {
		told["span_events"] = each.SpanEvents
	}
	return told
}

func allOf[T any](things []T, tell func(T) any) []any {
	told := make([]any, 0, len(things))
	for _, thing := range things {
		told = append(told, tell(thing))
	}
	return told
}
