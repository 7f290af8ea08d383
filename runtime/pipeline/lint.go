package pipeline

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/redpanda-data/benthos/v4/public/service"
	"gopkg.in/yaml.v3"

	"github.com/seed-98920119/tocsin/runtime/alert"
	"github.com/seed-98920119/tocsin/runtime/match"
)

// Finding is a fault of a pipeline file; line and column count from 1.
type Finding struct {
	File         string
	Line, Column int
	Text         string
}

func (f Finding) String() string {
	return fmt.Sprintf("%s:%d:%d: %s", f.File, f.Line, f.Column, f.Text)
}

// Check finds every fault of a pipeline: those of YAML, those within `buffer.detect`, which our own pass decodes node by
// node, and those of everything else, by Benthos's linter. The Config is nil if there is no detect buffer, and good only
// without findings.
func Check(file string, src []byte) (*Config, []Finding) {
	c := &checker{file: file, src: src}
	if err := yaml.Unmarshal(src, &c.root); err != nil {
		c.syntax(err)
		return nil, c.found
	}
	if len(c.root.Content) == 0 || c.root.Content[0].Kind != yaml.MappingNode {
		c.add(1, 1, "a pipeline is a mapping with input, buffer and output")
		return nil, c.found
	}
	top := c.root.Content[0]
	c.duplicates(top)
	c.variables()
	conf := c.detect(top)
	c.registered(top, conf)
	c.bigqueryColumns(top, conf)
	c.lanes(top, conf)
	c.components(top)
	c.benthos()
	slices.SortStableFunc(c.found, func(a, b Finding) int { return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column)) })
	c.found = slices.Compact(c.found)
	return conf, c.found
}

type checker struct {
	file       string
	src        []byte
	root       yaml.Node
	found      []Finding
	from, till int // lines of the detect buffer, which Benthos's linter does not judge
}

func (c *checker) add(line, column int, format string, args ...any) {
	c.found = append(c.found, Finding{c.file, line, column, fmt.Sprintf(format, args...)})
}

func (c *checker) at(n *yaml.Node, format string, args ...any) {
	c.add(n.Line, n.Column, format, args...)
}

var yamlLine = regexp.MustCompile(`line (\d+): (.*)`)

// syntax says where YAML stopped: the parser knows the line, and the column is that of the line's first character.
func (c *checker) syntax(err error) {
	line, text := 1, err.Error()
	if m := yamlLine.FindStringSubmatch(text); m != nil {
		line, _ = strconv.Atoi(m[1])
		text = m[2]
	}
	lines := strings.Split(string(c.src), "\n")
	for i, l := range lines { // a tab is the usual fault, and the parser notices it late
		if rest := strings.TrimLeft(l, " "); strings.HasPrefix(rest, "\t") && strings.TrimSpace(rest) != "" {
			c.add(i+1, len(l)-len(rest)+1, "a tab indents this line; YAML takes only spaces")
			return
		}
	}
	column := 1
	if line <= len(lines) {
		column += len(lines[line-1]) - len(strings.TrimLeft(lines[line-1], " "))
	}
	c.add(line, column, "not YAML: %s", strings.TrimPrefix(text, "yaml: "))
}

// duplicates finds keys that stand twice, outside detect, whose pass finds its own.
func (c *checker) duplicates(n *yaml.Node) {
	if n.Kind == yaml.MappingNode {
		seen := map[string]bool{}
		for i := 0; i+1 < len(n.Content); i += 2 {
			k := n.Content[i]
			if seen[k.Value] {
				c.at(k, "key %q is there twice; keep one", k.Value)
			}
			seen[k.Value] = true
			if k.Value != "detect" {
				c.duplicates(n.Content[i+1])
			}
		}
		return
	}
	for _, x := range n.Content {
		c.duplicates(x)
	}
}

var variable = regexp.MustCompile(`\$\{[A-Za-z0-9_]+\}`)

// variables finds ${NAME} that the environment does not have.
func (c *checker) variables() {
	for i, line := range strings.Split(string(c.src), "\n") {
		if strings.HasPrefix(strings.TrimSpace(line), "#") {
			continue
		}
		for _, m := range variable.FindAllStringIndex(line, -1) {
			name := line[m[0]+2 : m[1]-1]
			if _, ok := lookupEnv(name); !ok {
				c.add(i+1, m[0]+1, "the environment has no variable %s; set it, or give a default: ${%s:default}", name, name)
			}
		}
	}
}

// detect decodes the detect buffer, if there is one.
func (c *checker) detect(top *yaml.Node) *Config {
	buffer := peek(top, "buffer")
	if buffer == nil {
		return nil
	}
	n := peek(buffer, "detect")
	if n == nil {
		return nil
	}
	c.from, c.till = n.Line, lastLine(n)
	conf, problems := DecodeDetect(substituted(n))
	conf.file = c.file
	for _, p := range problems {
		c.add(p.Line, p.Column, "%s", p.Text)
	}
	return conf
}

// substituted is the node with the variables of the environment filled in, as Benthos fills them in.
func substituted(n *yaml.Node) *yaml.Node {
	out := *n
	if n.Kind == yaml.ScalarNode && strings.Contains(n.Value, "${") {
		out.Value = fillVariables(n.Value)
		var typed yaml.Node
		if n.Style == 0 && yaml.Unmarshal([]byte(out.Value), &typed) == nil && len(typed.Content) == 1 {
			out.Tag = typed.Content[0].Tag
		}
	}
	out.Content = nil
	for _, x := range n.Content {
		out.Content = append(out.Content, substituted(x))
	}
	return &out
}

func lastLine(n *yaml.Node) int {
	last := n.Line
	for _, x := range n.Content {
		last = max(last, lastLine(x))
	}
	return last
}

// checks are what Benthos's linter does not see in the fields of our own components.
var checks = map[string]map[string]func(n *yaml.Node) string{
	"file_lines": {
		"paths": func(n *yaml.Node) string {
			if n.Kind != yaml.SequenceNode || len(n.Content) == 0 {
				return "paths must be a list of paths or globs"
			}
			for _, x := range n.Content {
				if x.Tag != "!!str" {
					return "paths must be a list of paths or globs, not " + shown(x)
				}
			}
			return ""
		},
		"max_line": func(n *yaml.Node) string {
			if _, err := parseLineMax(n.Value); err != nil {
				return err.Error()
			}
			return ""
		},
		"follow": func(n *yaml.Node) string {
			if n.Tag != "!!bool" && !strings.Contains(n.Value, "${") {
				return "follow must be true or false, not " + shown(n)
			}
			return ""
		},
		"start": func(n *yaml.Node) string {
			_, _, err := parseFileStart(n.Value)
			return said(0, err)
		},
		"encoding":      func(n *yaml.Node) string { return said(charsetOf(n.Value)) },
		"poll_interval": func(n *yaml.Node) string { return said(parsePoll(n.Value)) },
		"quiet_after":   func(n *yaml.Node) string { return said(parseQuiet(n.Value)) },
	},
	"ocsf": {"version": checkVersion("OCSF", alert.OCSFVersions)},
	"ecs":  {"version": checkVersion("ECS", []string{alert.ECSVersion})},
	"file_rows": {"path": func(n *yaml.Node) string {
		if n.Tag != "!!str" || n.Value == "" {
			return "path must be the path of a file, not " + shown(n)
		}
		return ""
	}},
}

func said[T any](_ T, err error) string {
	if err != nil {
		return err.Error()
	}
	return ""
}

// components checks our own components, wherever they stand.
func (c *checker) components(n *yaml.Node) {
	for i, x := range n.Content {
		if n.Kind == yaml.MappingNode && i%2 == 0 {
			if c.processor(x, n.Content[i+1]) || c.connector(x, n.Content[i+1]) {
				continue
			}
			fields, ok := checks[x.Value]
			if !ok || n.Content[i+1].Kind != yaml.MappingNode {
				continue
			}
			if m := peek(n.Content[i+1], "multiline"); x.Value == "file_lines" && m != nil {
				_, problems := decodeMultiline(substituted(m))
				c.problems(problems)
			}
			if p := peek(n.Content[i+1], "positions"); x.Value == "file_lines" && p != nil && c.from > 0 {
				c.at(p, "%s", positionsTwice)
			}
			for name, check := range fields {
				if v := peek(n.Content[i+1], name); v == nil && (name == "paths" || name == "path") {
					c.at(x, "%s needs %s", x.Value, name)
				} else if v != nil {
					if said := check(v); said != "" {
						c.at(v, "%s", said)
					}
				}
			}
			continue
		}
		c.components(x)
	}
}

// detects says whether a node is of the detect buffer.
func (c *checker) detects(n *yaml.Node) bool {
	return c.from > 0 && n.Line >= c.from && n.Line <= c.till
}

// processor checks a processor `detect`, which Benthos's linter knows nothing of.
func (c *checker) processor(key, n *yaml.Node) bool {
	if key.Value != "detect" || n.Kind != yaml.MappingNode || c.detects(n) {
		return false
	}
	_, problems := decodeProcessor(substituted(n))
	for _, p := range problems {
		c.add(p.Line, p.Column, "%s", p.Text)
	}
	return true
}

// connector checks the inputs and outputs that Benthos's linter knows too little of.
func (c *checker) connector(key, n *yaml.Node) bool {
	var problems []match.Problem
	if n.Kind != yaml.MappingNode || c.detects(n) {
		return false
	}
	switch key.Value {
	case "kafka_records":
		group := peek(n, "group")
		switch _, problems = decodeKafkaRecords(substituted(n)); {
		case c.from == 0 && group == nil:
			c.at(key, "kafka_records %v", errNoDetect)
		case c.from > 0 && group != nil:
			c.at(group, "kafka_records %v", errTwice)
		}
	case "kafka_rows":
		_, problems = decodeKafkaRows(substituted(n))
	case "elasticsearch_bulk":
		_, problems = decodeElasticBulk(substituted(n))
	case "bigquery_rows":
		_, problems = decodeBigqueryRows(substituted(n))
	case "webhook":
		_, problems = decodeWebhook(substituted(n))
	case "smtp":
		_, problems = decodeSMTP(substituted(n))
	case "parse":
		_, problems = decodeParse(substituted(n))
	default:
		return false
	}
	c.problems(problems)
	return true
}

func (c *checker) problems(all []match.Problem) {
	for _, p := range all {
		if strings.HasPrefix(p.Text, "key ") && strings.Contains(p.Text, " is there twice in ") { // duplicates has said it
			continue
		}
		c.add(p.Line, p.Column, "%s", p.Text)
	}
}

// benthos runs Benthos's linter over the file, without what our own pass judges, and finds columns where it says 1.
func (c *checker) benthos() {
	lints, err := service.GlobalEnvironment().FullConfigSchema("", "").NewStreamConfigLinter().SetSkipEnvVarCheck(true).LintYAML(c.src)
	if err != nil {
		if len(c.found) == 0 {
			c.add(1, 1, "%s", oneLine(err))
		}
		return
	}
	for _, l := range lints {
		if c.from > 0 && l.Line >= c.from && l.Line <= c.till {
			continue
		}
		line, column := l.Line, l.Column
		text := strings.TrimSpace(l.What)
		if n := c.node(line, text); n != nil {
			column = n.Column
		}
		if slices.ContainsFunc(c.found, func(f Finding) bool { return f.Line == line }) {
			continue // our own pass has said it better
		}
		c.add(line, max(column, 1), "%s", text)
	}
}

var quotedName = regexp.MustCompile(`\b(?:field|key|type|component|named) ['"` + "`" + `]?([A-Za-z_][\w./-]*)|([A-Za-z_][\w.-]*) (?:not recognised|is required)`)

// node finds what a lint speaks of: the key it names on its line, else the first one there.
func (c *checker) node(line int, text string) (found *yaml.Node) {
	var names []string
	for _, m := range quotedName.FindAllStringSubmatch(text, -1) {
		names = append(names, m[1:]...)
	}
	var walk func(n *yaml.Node)
	walk = func(n *yaml.Node) {
		for _, x := range n.Content {
			if x.Line == line && x.Kind == yaml.ScalarNode && (found == nil || slices.Contains(names, x.Value) && !slices.Contains(names, found.Value)) {
				found = x
			}
			walk(x)
		}
	}
	walk(&c.root)
	return found
}

func oneLine(err error) string { return strings.Join(strings.Fields(err.Error()), " ") }
