package wasm

import (
	"bytes"
	"errors"
	"fmt"
	"strings"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"golang.org/x/text/language"
	"golang.org/x/text/message"

	"github.com/seed-98920119/tocsin/abi"
)

// schema is a module's schema of its configuration.
type schema struct{ compiled *jsonschema.Schema }

// ConfigProblem is a fault of a configuration: where in it, as the keys on the way, and what is wrong.
type ConfigProblem struct {
	Path []string
	Text string
}

// noLoader refuses references out of the manifest.
type noLoader struct{}

func (noLoader) Load(url string) (any, error) {
	return nil, errors.New("$ref may only point within the schema (#/...)")
}

func compileSchema(text []byte) (*schema, error) {
	if text == nil {
		return nil, nil
	}
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		return nil, fmt.Errorf("manifest: config_schema: %w", err)
	}
	c := jsonschema.NewCompiler()
	c.UseLoader(noLoader{})
	if err := c.AddResource("manifest:/config_schema", doc); err != nil {
		return nil, fmt.Errorf("manifest: config_schema: %w", err)
	}
	s, err := c.Compile("manifest:/config_schema")
	if err != nil {
		return nil, fmt.Errorf("manifest: config_schema: %w", err)
	}
	return &schema{s}, nil
}

// CheckConfig checks a configuration, JSON, against the module's schema. A module without one takes an empty object alone.
func (m *Module) CheckConfig(config []byte) []ConfigProblem {
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(config))
	if err != nil {
		return []ConfigProblem{{nil, err.Error()}}
	}
	if len(config) > abi.ConfigMax {
		return []ConfigProblem{{nil, fmt.Sprintf("the configuration has %d bytes; at most %d", len(config), abi.ConfigMax)}}
	}
	if m.schema == nil {
		if o, ok := doc.(map[string]any); ok && len(o) == 0 {
			return nil
		}
		return []ConfigProblem{{nil, fmt.Sprintf("%s takes no configuration; leave config out", m.Manifest.Name)}}
	}
	var v *jsonschema.ValidationError
	if err := m.schema.compiled.Validate(doc); !errors.As(err, &v) {
		return nil
	}
	return leaves(nil, v)
}

// leaves are the causes that have no causes of their own.
func leaves(dst []ConfigProblem, v *jsonschema.ValidationError) []ConfigProblem {
	for _, c := range v.Causes {
		dst = leaves(dst, c)
	}
	if len(v.Causes) == 0 {
		text := v.ErrorKind.LocalizedString(message.NewPrinter(language.English))
		dst = append(dst, ConfigProblem{v.InstanceLocation, strings.TrimSpace(text)})
	}
	return dst
}
