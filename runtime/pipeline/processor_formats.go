package pipeline

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/redpanda-data/benthos/v4/public/service"
	"gopkg.in/yaml.v3"

	"github.com/seed-98920119/tocsin/runtime/alert"
)

// The processors `ocsf` and `ecs`: alerts in the form that other systems take as their own.

// formatsRest is what both say about everything else.
const formatsRest = " Messages that are no alerts (metadata `kind`) pass unchanged. An alert that something has changed before is an error that `catch` sees, and stays as it is."

// formatExample is a pipeline with an alert and a processor.
func formatExample(name, processor string) string {
	return `input:
  file_lines:
    paths: [pipelines/data/logins.jsonl]
buffer:
  detect:
    name: ` + name + `
    state: ./state/` + name + `
    streams:
      logins: { time: { field: login_time } }
    operators:
      failures:
        window: { from: logins, tumbling: 1m, key: source_ip, where: { status: failure }, aggregate: { n: count }, having: { n|gte: 5 } }
        alert:
          title: "{n} failures from {source_ip}"
          severity: medium
          entities: [ { field: source_ip, type: ip, role: source } ]
          attack: [T1110]
output:
  file_rows: { path: ./out/` + name + `.jsonl }
  processors:
    - ` + processor + `
`
}

func ocsfSpec() *service.ConfigSpec {
	newest := alert.OCSFVersions[len(alert.OCSFVersions)-1]
	return service.NewConfigSpec().Categories("Mapping").Summary("Turns alerts into OCSF Detection Findings (class 2004).").
		Description("The finding's uid is the alert's id, a revision is an Update of it; `entities` become observables and, by their roles, parties of the evidence; `attack` becomes attacks with their tactics."+formatsRest).
		Field(service.NewStringField("version").Description("The version of the schema: "+strings.Join(alert.OCSFVersions, ", ")+".").Default(newest)).
		Example("Findings for a security lake", runs, formatExample("ocsf", "ocsf: { version: 1.4.0 }"))
}

func ecsSpec() *service.ConfigSpec {
	return service.NewConfigSpec().Categories("Mapping").Summary("Turns alerts into documents of the Elastic Common Schema (event.kind: alert).").
		Description("`entities` set source, destination, host, user, file, process, url and email by their types and roles, and related.*; what the schema has no field for stands under `tocsin`."+formatsRest).
		Field(service.NewStringField("version").Description("The version of the schema: "+alert.ECSVersion+".").Default(alert.ECSVersion).Advanced()).
		Example("Alerts for Elasticsearch", runs, formatExample("ecs", "ecs: {}"))
}

func init() {
	register := func(name string, spec *service.ConfigSpec, create func(conf *service.ParsedConfig) (service.BatchProcessor, error)) {
		err := service.RegisterBatchProcessor(name, spec, func(conf *service.ParsedConfig, _ *service.Resources) (service.BatchProcessor, error) {
			return create(conf)
		})
		if err != nil {
			panic(err)
		}
	}
	register("ocsf", ocsfSpec(), newOCSF)
	register("ecs", ecsSpec(), newECS)
}

// formats is a processor that writes alerts in another form.
type formats struct {
	name  string
	write func(a *alert.Alert) ([]byte, error)
}

func newOCSF(conf *service.ParsedConfig) (service.BatchProcessor, error) {
	version, err := schemaVersion(conf, "OCSF", alert.OCSFVersions)
	return formats{"ocsf", func(a *alert.Alert) ([]byte, error) { return a.OCSF(version) }}, err
}

func newECS(conf *service.ParsedConfig) (service.BatchProcessor, error) {
	_, err := schemaVersion(conf, "ECS", []string{alert.ECSVersion})
	return formats{"ecs", (*alert.Alert).ECS}, err
}

func schemaVersion(conf *service.ParsedConfig, schema string, versions []string) (string, error) {
	version, err := conf.FieldString("version")
	if err == nil && !slices.Contains(versions, version) {
		err = fmt.Errorf("version must be a version of %s, not %q%s", schema, version, suggestVersion(version, versions))
	}
	return version, err
}

// checkVersion is the linter's check of the field; a version may look like a number.
func checkVersion(schema string, versions []string) func(n *yaml.Node) string {
	return func(n *yaml.Node) string {
		if n.Kind == yaml.ScalarNode && slices.Contains(versions, n.Value) {
			return ""
		}
		return fmt.Sprintf("version must be a version of %s, not %s%s", schema, shown(n), suggestVersion(n.Value, versions))
	}
}

// suggestVersion completes a version that lacks its last number, or names all: neighbours in spelling are no nearer in meaning.
func suggestVersion(version string, versions []string) string {
	if whole := version + ".0"; slices.Contains(versions, whole) {
		return fmt.Sprintf("; did you mean %q?", whole)
	}
	return "; there is " + strings.Join(versions, ", ")
}

// ProcessBatch writes the alerts of a batch anew, each in its place. Another output of a broker may have the same messages, so
// what changes is a copy.
func (p formats) ProcessBatch(_ context.Context, batch service.MessageBatch) ([]service.MessageBatch, error) {
	out := slices.Clone(batch)
	for i, m := range batch {
		if kind, _ := m.MetaGet("kind"); kind != "alert" || m.GetError() != nil {
			continue
		}
		out[i] = m.Copy()
		if err := p.message(out[i]); err != nil {
			out[i].SetError(fmt.Errorf("%s: %w", p.name, err))
		}
	}
	return []service.MessageBatch{out}, nil
}

func (p formats) message(m *service.Message) error {
	payload, err := m.AsBytes()
	if err != nil {
		return err
	}
	text, _ := m.MetaGet("revision")
	revision, _ := strconv.Atoi(text) // none is the first time
	a, err := alert.Read(payload, revision)
	if err != nil {
		return err
	}
	out, err := p.write(a)
	if err == nil {
		m.SetBytes(out)
	}
	return err
}

// Close has nothing to give back.
func (p formats) Close(context.Context) error { return nil }
