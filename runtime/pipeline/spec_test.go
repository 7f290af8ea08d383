package pipeline

import (
	"slices"
	"strings"
	"testing"

	"github.com/redpanda-data/benthos/v4/public/service"
	"gopkg.in/yaml.v3"

	"github.com/seed-98920119/tocsin/runtime/match"
)

// problemsOf is a decoder of which only the problems count.
func problemsOf[T any](decode func(n *yaml.Node) (T, []match.Problem)) func(n *yaml.Node) []match.Problem {
	return func(n *yaml.Node) []match.Problem { _, p := decode(n); return p }
}

// The specifications, which Benthos's linter and the reference go by, and the decoders, which lint and run go by, know the same fields.
func TestSpecificationsAndDecoders(t *testing.T) {
	env := service.GlobalEnvironment()
	for _, c := range []struct {
		name   string
		view   func(name string) (*service.ConfigView, bool)
		decode func(n *yaml.Node) []match.Problem
		hidden []string // known to the decoder, only to be refused
	}{
		{"kafka_records", env.GetInputConfig, problemsOf(decodeKafkaRecords), []string{"sasl.password", "sasl.token"}},
		{"kafka_rows", env.GetOutputConfig, problemsOf(decodeKafkaRows), []string{"sasl.password", "sasl.token"}},
		{"elasticsearch_bulk", env.GetOutputConfig, problemsOf(decodeElasticBulk), nil},
		{"webhook", env.GetOutputConfig, problemsOf(decodeWebhook), []string{"auth.api_key_env", "auth.api_key_file"}},
		{"smtp", env.GetOutputConfig, problemsOf(decodeSMTP), []string{"auth.api_key_env", "auth.api_key_file", "auth.token_env", "auth.token_file"}},
		{"bigquery_rows", env.GetOutputConfig, problemsOf(decodeBigqueryRows), nil},
		{"parse", env.GetProcessorConfig, problemsOf(decodeParse), nil},
		{"detect", env.GetProcessorConfig, problemsOf(decodeProcessor), nil},
		{"detect", env.GetBufferConfig, problemsOf(DecodeDetect), []string{"id"}},
	} {
		view, ok := c.view(c.name)
		if !ok {
			t.Fatalf("%s is not registered", c.name)
		}
		data, err := view.TemplateData()
		if err != nil {
			t.Fatal(err)
		}
		var spec, got []string
		parts := []string{""}
		for _, f := range data.Fields {
			spec = append(spec, f.FullName)
			if at := strings.LastIndex(f.FullName, "."); at >= 0 && !slices.Contains(parts, f.FullName[:at]) {
				parts = append(parts, f.FullName[:at])
			}
		}
		for _, part := range parts {
			prefix := part
			if part != "" {
				prefix += "."
			}
			for _, name := range keysIn(t, part, c.decode) {
				if !slices.Contains(c.hidden, prefix+name) {
					got = append(got, prefix+name)
				}
			}
		}
		slices.Sort(got)
		slices.Sort(spec)
		if !slices.Equal(got, spec) || len(spec) == 0 {
			t.Errorf("%s %s\nthe decoder knows %v\nthe specification %v", data.Type, c.name, got, spec)
		}
	}
}

// keysIn are the keys that a decoder knows in the mapping at a path: it names them when it meets another one.
func keysIn(t *testing.T, path string, decode func(n *yaml.Node) []match.Problem) []string {
	t.Helper()
	text := "{ zzzzzzzz: 1 }"
	if path != "" {
		parts := strings.Split(path, ".")
		for i := range parts {
			text = "{ " + parts[len(parts)-1-i] + ": " + text + " }"
		}
	}
	var n yaml.Node
	if err := yaml.Unmarshal([]byte(text), &n); err != nil {
		t.Fatal(err)
	}
	for _, p := range decode(n.Content[0]) {
		if _, list, ok := strings.Cut(p.Text, "; there is "); ok {
			return strings.Split(list, ", ")
		}
	}
	t.Fatalf("%s: no list of keys", text)
	return nil
}

// What a distribution of others parses by the specification, with its defaults, the decoder takes.
func TestDetectParsed(t *testing.T) {
	const text = `
name: parsed
state: ./state/parsed
streams: { logins: { time: { field: t } } }
operators: { n: { window: { from: logins, tumbling: 1m, key: a, aggregate: { n: count } } } }
`
	parsed, err := detectSpec().ParseYAML(text, nil)
	if err != nil {
		t.Fatal(err)
	}
	c, err := decodeParsed(parsed, "detect", DecodeDetect)
	if err != nil {
		t.Fatal(err)
	}
	if c.Spec.Name != "parsed" || c.Retries != 10 || c.Memory != 512<<20 || c.BlockRows != 4096 || c.Shards != 0 || c.Removed != "" || c.HTTP != "" || len(c.Spec.Operators) != 1 {
		t.Errorf("%+v", c)
	}
}
