package main

import (
	"fmt"
	"math"
	"time"

	"github.com/DataDog/datadog-go/v5/statsd"
	"github.com/DataDog/sketches-go/ddsketch"
	"github.com/DataDog/sketches-go/ddsketch/pb/sketchpb"
	"github.com/DataDog/sketches-go/ddsketch/store"
	"go.opentelemetry.io/collector/pdata/ptrace"
	"google.golang.org/protobuf/proto"

	"github.com/DataDog/datadog-agent/pkg/obfuscate"
	pb "github.com/DataDog/datadog-agent/pkg/proto/pbgo/trace"
	otelstats "github.com/DataDog/datadog-agent/pkg/trace/otel/stats"
	"github.com/DataDog/datadog-agent/pkg/trace/stats"
)

// The body of /api/v0.2/stats.
func statsPayload(body []byte, _ options) (any, error) {
	payload := &pb.StatsPayload{}
	if rest, err := payload.UnmarshalMsg(body); err != nil || len(rest) > 0 {
		return nil, fmt.Errorf("no statistics: %w, %d bytes left over", err, len(rest))
	}
	return tellStats(payload)
}

// The body of /v0.6/stats.
func clientStatsPayload(body []byte, _ options) (any, error) {
	payload := &pb.ClientStatsPayload{}
	if rest, err := payload.UnmarshalMsg(body); err != nil || len(rest) > 0 {
		return nil, fmt.Errorf("no statistics: %w, %d bytes left over", err, len(rest))
	}
	return tellClient(payload)
}

// OTLP TracesData through the agent's concentrator.
func concentrated(body []byte, given options) (any, error) {
	conf, err := agentConfig(given)
	if err != nil {
		return nil, err
	}
	traces, err := otlp(body)
	if err != nil {
		return nil, err
	}
	var obfuscator *obfuscate.Obfuscator
	if given.obfuscate {
		obfuscator = obfuscate.NewObfuscator(conf.Obfuscation.Export(conf))
	}
	inputs := otelstats.OTLPTracesToConcentratorInputsWithObfuscation(
		traces, conf, nil, conf.ConfiguredPeerTags(), nil, obfuscator)
	// As if it had been started before the first span ended: none is late.
	concentrator := stats.NewConcentrator(conf, nil, firstEnd(traces), &statsd.NoOpClient{})
	for _, input := range inputs {
		concentrator.Add(input)
	}
	return tellStats(concentrator.Flush(true))
}

func firstEnd(traces ptrace.Traces) time.Time {
	first := int64(math.MaxInt64)
	for _, resource := range traces.ResourceSpans().All() {
		for _, scope := range resource.ScopeSpans().All() {
			for _, span := range scope.Spans().All() {
				first = min(first, int64(span.EndTimestamp()), int64(span.StartTimestamp()))
			}
		}
	}
	return time.Unix(0, first)
}

func tellStats(payload *pb.StatsPayload) (any, error) {
	clients := []any{}
	for _, client := range payload.Stats {
		told, err := tellClient(client)
		if err != nil {
			return nil, err
		}
		clients = append(clients, told)
	}
	return map[string]any{
		"AgentHostname": payload.AgentHostname, "AgentEnv": payload.AgentEnv, "AgentVersion": payload.AgentVersion,
		"ClientComputed": payload.ClientComputed, "SplitPayload": payload.SplitPayload, "Stats": clients,
	}, nil
}

func tellClient(client *pb.ClientStatsPayload) (any, error) {
	buckets := []any{}
	for _, bucket := range client.Stats {
		groups := []any{}
		for _, group := range bucket.Stats {
			told, err := tellGroup(group)
			if err != nil {
				return nil, err
			}
			groups = append(groups, told)
		}
		buckets = append(buckets, map[string]any{
			"Start": bucket.Start, "Duration": bucket.Duration, "AgentTimeShift": bucket.AgentTimeShift, "Stats": groups,
		})
	}
	return map[string]any{
		"Hostname": client.Hostname, "Env": client.Env, "Version": client.Version, "Lang": client.Lang,
		"TracerVersion": client.TracerVersion, "RuntimeID": client.RuntimeID, "Sequence": client.Sequence,
		"AgentAggregation": client.AgentAggregation, "Service": client.Service, "ContainerID": client.ContainerID,
		"Tags": client.Tags, "GitCommitSha": client.GitCommitSha, "ImageTag": client.ImageTag,
		"ProcessTagsHash": client.ProcessTagsHash, "ProcessTags": client.ProcessTags, "Stats": buckets,
	}, nil
}

func tellGroup(group *pb.ClientGroupedStats) (any, error) {
	ok, err := tellSketch(group.OkSummary)
	if err != nil {
		return nil, err
	}
	failed, err := tellSketch(group.ErrorSummary)
	if err != nil {
		return nil, err
	}
	return map[string]any{
		"Service": group.Service, "Name": group.Name, "Resource": group.Resource, "Type": group.Type,
		"HTTPStatusCode": group.HTTPStatusCode, "DBType": group.DBType, "Hits": group.Hits, "Errors": group.Errors,
		"Duration": group.Duration, "Synthetics": group.Synthetics, "TopLevelHits": group.TopLevelHits,
		"SpanKind": group.SpanKind, "PeerTags": group.PeerTags, "IsTraceRoot": int32(group.IsTraceRoot),
		"GRPCStatusCode": group.GRPCStatusCode, "HTTPMethod": group.HTTPMethod, "HTTPEndpoint": group.HTTPEndpoint,
		"srv_src": group.ServiceSource, "AdditionalMetricTags": group.AdditionalMetricTags,
		"OkSummary": ok, "ErrorSummary": failed,
	}, nil
}

var quantiles = []float64{0.5, 0.75, 0.9, 0.95, 0.99}

// What sketches-go reads out of a sketch; nil where there is none.
func tellSketch(summary []byte) (any, error) {
	if len(summary) == 0 {
		return nil, nil
	}
	message := &sketchpb.DDSketch{}
	if err := proto.Unmarshal(summary, message); err != nil {
		return nil, fmt.Errorf("no sketch: %w", err)
	}
	sketch, err := ddsketch.FromProtoWithStoreProvider(message, store.BufferedPaginatedStoreConstructor)
	if err != nil {
		return nil, fmt.Errorf("no sketch: %w", err)
	}
	told := map[string]any{
		"count": sketch.GetCount(), "bytes": len(summary), "accuracy": sketch.RelativeAccuracy(),
	}
	if sketch.IsEmpty() {
		return told, nil
	}
	least, _ := sketch.GetMinValue()
	most, _ := sketch.GetMaxValue()
	told["min"], told["max"] = least, most
	values, err := sketch.GetValuesAtQuantiles(quantiles)
	if err != nil {
		return nil, err
	}
	for index, quantile := range quantiles {
		told[fmt.Sprintf("p%g", 100*quantile)] = values[index]
	}
	return told, nil
}
