package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"slices"

	"go.opentelemetry.io/collector/component/componenttest"
	"go.opentelemetry.io/collector/pdata/ptrace"

	"github.com/open-telemetry/opentelemetry-collector-contrib/pkg/ottl"
	"github.com/open-telemetry/opentelemetry-collector-contrib/pkg/ottl/contexts/ottlspan"
	"github.com/open-telemetry/opentelemetry-collector-contrib/pkg/ottl/contexts/ottlspanevent"
	"github.com/open-telemetry/opentelemetry-collector-contrib/pkg/ottl/ottlfuncs"
)

// Question is a condition, asked of each span or of each span event of a request.
type Question struct {
	Context   string          `json:"context"`
	Condition string          `json:"condition"`
	Traces    json.RawMessage `json:"traces"`
}

// Results are one answer each, in their order: "true", "false", or what failed; or why the condition is refused.
type Results struct {
	Results []string `json:"results,omitempty"`
	Refused string   `json:"refused,omitempty"`
	Error   string   `json:"error,omitempty"`
}

// As tail_sampling has them: all converters, and IsRootSpan for spans.
func spanFunctions() map[string]ottl.Factory[*ottlspan.TransformContext] {
	found := ottlfuncs.StandardConverters[*ottlspan.TransformContext]()
	root := ottlfuncs.NewIsRootSpanFactory()
	found[root.Name()] = root
	return found
}

func functions(_ io.Reader, out io.Writer) error {
	var names []string
	for name := range spanFunctions() {
		names = append(names, name)
	}
	slices.Sort(names)
	return json.NewEncoder(out).Encode(names)
}

type parsers struct {
	spans, barespans   ottl.Parser[*ottlspan.TransformContext]
	events, bareevents ottl.Parser[*ottlspanevent.TransformContext]
}

func newParsers() (made parsers, err error) {
	nothing := componenttest.NewNopTelemetrySettings()
	if made.spans, err = ottlspan.NewParser(spanFunctions(), nothing, ottlspan.EnablePathContextNames()); err != nil {
		return made, err
	}
	if made.barespans, err = ottlspan.NewParser(spanFunctions(), nothing); err != nil {
		return made, err
	}
	converters := ottlfuncs.StandardConverters[*ottlspanevent.TransformContext]()
	if made.events, err = ottlspanevent.NewParser(converters, nothing, ottlspanevent.EnablePathContextNames()); err != nil {
		return made, err
	}
	made.bareevents, err = ottlspanevent.NewParser(converters, nothing)
	return made, err
}

func conditions(in io.Reader, out io.Writer) error {
	made, err := newParsers()
	if err != nil {
		return err
	}
	encoder := json.NewEncoder(out)
	for asked := lines(in); asked.Scan(); {
		if err := encoder.Encode(made.answer(asked.Bytes())); err != nil {
			return err
		}
	}
	return nil
}

func (p parsers) answer(line []byte) (told Results) {
	var asked Question
	if err := json.Unmarshal(line, &asked); err != nil {
		return Results{Error: err.Error()}
	}
	reader := ptrace.JSONUnmarshaler{}
	traces, err := reader.UnmarshalTraces(asked.Traces)
	if err != nil {
		return Results{Error: err.Error()}
	}
	ctx := context.Background()
	if asked.Context == "spanevent" {
		condition, err := parsed(asked.Condition, p.events, p.bareevents)
		if err != nil {
			return Results{Refused: err.Error()}
		}
		each(traces, func(resource ptrace.ResourceSpans, scope ptrace.ScopeSpans, span ptrace.Span) {
			for _, event := range span.Events().All() {
				its := ottlspanevent.NewTransformContext(resource, scope, span, event)
				told.Results = append(told.Results, word(condition.Eval(ctx, its)))
				its.Close()
			}
		})
		return told
	}
	condition, err := parsed(asked.Condition, p.spans, p.barespans)
	if err != nil {
		return Results{Refused: err.Error()}
	}
	each(traces, func(resource ptrace.ResourceSpans, scope ptrace.ScopeSpans, span ptrace.Span) {
		its := ottlspan.NewTransformContext(resource, scope, span)
		told.Results = append(told.Results, word(condition.Eval(ctx, its)))
		its.Close()
	})
	return told
}

// The Collector takes paths with their context's name and without.
func parsed[K any](text string, named, bare ottl.Parser[K]) (*ottl.Condition[K], error) {
	condition, err := named.ParseCondition(text)
	if err != nil {
		return bare.ParseCondition(text)
	}
	return condition, nil
}

func word(held bool, err error) string {
	if err != nil {
		return "error: " + err.Error()
	}
	return fmt.Sprint(held)
}
