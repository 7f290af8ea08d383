package pipeline

import (
	"encoding/json"
	"slices"
	"strings"
	"time"
)

// A pipeline as a job of OpenLineage 2-0-2: streams are its inputs, and operators whose rows leave its outputs, each a dataset in the
// namespace tocsin. Files that a stream may come from are other names of it; addresses are not shown, since they may hold passwords.

const (
	lineageNamespace = "tocsin"
	lineageProducer  = "https://github.com/seed-98920119/tocsin"
	lineageSpec      = "https://openlineage.io/spec/"
)

type lineageFacets map[string]any

type lineageDataset struct {
	Namespace string        `json:"namespace"`
	Name      string        `json:"name"`
	Facets    lineageFacets `json:"facets,omitempty"`
}

type lineageEvent struct {
	EventTime string           `json:"eventTime"`
	Producer  string           `json:"producer"`
	SchemaURL string           `json:"schemaURL"`
	EventType string           `json:"eventType,omitempty"` // of runs
	Run       *lineageRun      `json:"run,omitempty"`
	Job       lineageDataset   `json:"job"` // of the same form
	Inputs    []lineageDataset `json:"inputs"`
	Outputs   []lineageDataset `json:"outputs"`
}

type lineageRun struct {
	RunID  string        `json:"runId"`
	Facets lineageFacets `json:"facets,omitempty"`
}

type lineageField struct {
	Namespace       string              `json:"namespace"`
	Name            string              `json:"name"`
	Field           string              `json:"field"`
	Transformations []map[string]string `json:"transformations"`
}

// facet is what every facet has.
func facet(file, name string) lineageFacets {
	return lineageFacets{"_producer": lineageProducer, "_schemaURL": lineageSpec + "facets/" + file + "/" + name + ".json#/$defs/" + name}
}

// OpenLineage is the graph as a JobEvent, JSON on one line, as of a moment.
func (g *Graph) OpenLineage(at time.Time) string { return g.lineage(at, "JobEvent", "", nil) }

// RunEvent is the graph as a RunEvent: kind is START, RUNNING, COMPLETE, ABORT or FAIL, id a UUID, and why, if it is not nil, what went wrong.
func (g *Graph) RunEvent(kind, id string, at time.Time, why error) string {
	run := &lineageRun{RunID: id}
	if why != nil {
		message := facet("1-0-0", "ErrorMessageRunFacet")
		message["message"], message["programmingLanguage"] = why.Error(), "GO"
		run.Facets = lineageFacets{"errorMessage": message}
	}
	return g.lineage(at, "RunEvent", kind, run)
}

func (g *Graph) lineage(at time.Time, form, kind string, run *lineageRun) string {
	job := facet("2-0-4", "JobTypeJobFacet")
	job["processingType"], job["integration"], job["jobType"] = "STREAMING", "TOCSIN", "JOB"
	e := lineageEvent{EventTime: at.UTC().Format(time.RFC3339Nano), Producer: lineageProducer, SchemaURL: lineageSpec + "2-0-2/OpenLineage.json#/$defs/" + form, EventType: kind, Run: run,
		Job: lineageDataset{lineageNamespace, g.Pipeline, lineageFacets{"jobType": job}}, Inputs: []lineageDataset{}, Outputs: []lineageDataset{}}
	for _, s := range g.Streams {
		e.Inputs = append(e.Inputs, lineageDataset{lineageNamespace, g.dataset(s.Name), g.symlinks(s)})
	}
	for _, o := range g.Operators {
		if o.Output {
			e.Outputs = append(e.Outputs, lineageDataset{lineageNamespace, g.dataset(o.Name), g.columnLineage(&o)})
		}
	}
	text, _ := json.Marshal(e) // texts alone
	return string(text) + "\n"
}

// dataset is the name of a stream's or operator's dataset.
func (g *Graph) dataset(name string) string { return g.Pipeline + "." + name }

// symlinks are the paths of the files that a stream may come from, nil for none.
func (g *Graph) symlinks(s GraphStream) lineageFacets {
	var paths []map[string]string
	for _, i := range s.Inputs {
		if in := g.Inputs[i]; strings.HasPrefix(in.Kind, "file") {
			for _, path := range in.At {
				paths = append(paths, map[string]string{"namespace": "file", "name": path, "type": "FILE"})
			}
		}
	}
	if paths == nil {
		return nil
	}
	f := facet("1-0-1", "SymlinksDatasetFacet")
	f["identifiers"] = paths
	return lineageFacets{"symlinks": f}
}

// columnLineage says of an operator's columns which fields they are made of, and which fields decide about its rows. The columns are
// listed unless the whole event is one of them.
func (g *Graph) columnLineage(o *GraphOperator) lineageFacets {
	fields := func(list []GraphField, how string) []lineageField {
		out := []lineageField{}
		for _, f := range list {
			out = append(out, lineageField{lineageNamespace, g.dataset(f.Stream), f.Field, []map[string]string{{"type": how}}})
		}
		return out
	}
	columns, names := map[string]any{}, []map[string]string{}
	for _, c := range o.Columns {
		columns[c.Name] = map[string]any{"inputFields": fields(c.From, "DIRECT")}
		names = append(names, map[string]string{"name": c.Name})
	}
	lineage := facet("1-2-0", "ColumnLineageDatasetFacet")
	lineage["fields"], lineage["dataset"] = columns, fields(o.Rows, "INDIRECT")
	all := lineageFacets{"columnLineage": lineage}
	if !slices.ContainsFunc(o.Columns, func(c GraphColumn) bool { return c.Name == "*" }) {
		schema := facet("1-2-0", "SchemaDatasetFacet")
		schema["fields"] = names
		all["schema"] = schema
	}
	return all
}
