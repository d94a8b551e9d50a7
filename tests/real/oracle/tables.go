package main

import (
	"strings"

	"github.com/DataDog/datadog-agent/pkg/opentelemetry-mapping-go/otlp/attributes"
	"github.com/DataDog/datadog-agent/pkg/trace/semantics"
)

// The tables that the agent maps by, and the names of those concepts that are asked for, a line each.
func tables(body []byte, given options) (any, error) {
	conf, err := agentConfig(given)
	if err != nil {
		return nil, err
	}
	concepts := map[string]any{}
	for _, concept := range strings.Fields(string(body)) {
		concepts[concept] = allOf(
			semantics.DefaultRegistry().GetAttributePrecedence(semantics.Concept(concept)),
			func(found semantics.TagInfo) any { return []string{found.Name, string(found.Type)} },
		)
	}
	return map[string]any{
		"peer_tags": conf.ConfiguredPeerTags(),
		"renamed":   attributes.HTTPMappings,
		"databases": attributes.DBTypes,
		"concepts":  concepts,
	}, nil
}
