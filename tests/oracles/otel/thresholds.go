package main

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"strings"

	"go.opentelemetry.io/collector/pdata/pcommon"

	"github.com/open-telemetry/opentelemetry-collector-contrib/pkg/sampling"
)

// Operation is one of pkg/sampling, by its name in `operations`.
type Operation struct {
	Op          string  `json:"op"`
	Probability float64 `json:"probability"`
	Precision   *int    `json:"precision"`
	Th          string  `json:"th"`
	Rv          string  `json:"rv"`
	TraceID     string  `json:"trace_id"`
	State       string  `json:"state"`
}

// Told is what it found; Error says why there is nothing.
type Told struct {
	Th          string  `json:"th,omitempty"`
	Probability float64 `json:"probability,omitempty"`
	Rv          string  `json:"rv,omitempty"`
	Sampled     *bool   `json:"sampled,omitempty"`
	State       string  `json:"state,omitempty"`
	Refused     string  `json:"refused,omitempty"`
	Error       string  `json:"error,omitempty"`
}

var operations = map[string]func(Operation) (Told, error){
	"threshold":  threshold,
	"randomness": randomness,
	"decide":     decide,
	"state":      state,
	"update":     state,
}

func thresholds(in io.Reader, out io.Writer) error {
	encoder := json.NewEncoder(out)
	encoder.SetEscapeHTML(false)
	for asked := lines(in); asked.Scan(); {
		var operation Operation
		var told Told
		err := json.Unmarshal(asked.Bytes(), &operation)
		if err == nil {
			run, known := operations[operation.Op]
			if !known {
				return fmt.Errorf("no operation %q", operation.Op)
			}
			told, err = run(operation)
		}
		if err != nil {
			told = Told{Error: err.Error()}
		}
		if err := encoder.Encode(told); err != nil {
			return err
		}
	}
	return nil
}

// Of a probability, or of a t-value.
func threshold(asked Operation) (Told, error) {
	var found sampling.Threshold
	var err error
	switch {
	case asked.Th != "":
		found, err = sampling.TValueToThreshold(asked.Th)
	case asked.Precision != nil:
		found, err = sampling.ProbabilityToThresholdWithPrecision(asked.Probability, *asked.Precision)
	default:
		found, err = sampling.ProbabilityToThreshold(asked.Probability)
	}
	return Told{Th: found.TValue(), Probability: found.Probability()}, err
}

// Of an r-value, or of a trace id.
func drawn(asked Operation) (sampling.Randomness, error) {
	if asked.Rv != "" {
		return sampling.RValueToRandomness(asked.Rv)
	}
	var id pcommon.TraceID
	raw, err := hex.DecodeString(asked.TraceID)
	if err != nil || len(raw) != len(id) {
		return sampling.Randomness{}, fmt.Errorf("no trace id: %q", asked.TraceID)
	}
	copy(id[:], raw)
	return sampling.TraceIDToRandomness(id), nil
}

func randomness(asked Operation) (Told, error) {
	found, err := drawn(asked)
	return Told{Rv: found.RValue()}, err
}

func decide(asked Operation) (Told, error) {
	limit, err := sampling.TValueToThreshold(asked.Th)
	if err != nil {
		return Told{}, err
	}
	found, err := drawn(asked)
	sampled := limit.ShouldSample(found)
	return Told{Sampled: &sampled}, err
}

// What a tracestate says, and with "update" what a sampler at `th` makes of it.
func state(asked Operation) (told Told, err error) {
	read, err := sampling.NewW3CTraceState(asked.State)
	if err != nil {
		return told, err
	}
	ours := read.OTelValue()
	if asked.Op == "update" {
		limit, err := sampling.TValueToThreshold(asked.Th)
		if err != nil {
			return told, err
		}
		if refused := ours.UpdateTValueWithSampling(limit); refused != nil {
			told.Refused = refused.Error()
		}
	}
	if found, is := ours.TValueThreshold(); is {
		told.Th, told.Probability = found.TValue(), found.Probability()
	}
	if found, is := ours.RValueRandomness(); is {
		told.Rv = found.RValue()
	}
	var written strings.Builder
	err = read.Serialize(&written)
	told.State = written.String()
	return told, err
}
