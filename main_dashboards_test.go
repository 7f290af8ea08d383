package main

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/seed-98920119/tocsin/bench/gen"
	"github.com/seed-98920119/tocsin/runtime/elastic/double"
)

// savedObject is a line of the dashboards' file.
type savedObject struct {
	ID, Type         string
	Attributes       map[string]any
	References       []struct{ Name, Type, ID string }
	MigrationVersion map[string]string
}

// text is an attribute that is JSON as a text, read into v; name is the attribute's path.
func (o *savedObject) text(t *testing.T, v any, name ...string) {
	t.Helper()
	at := o.Attributes
	for _, n := range name[:len(name)-1] {
		at, _ = at[n].(map[string]any)
	}
	s, _ := at[name[len(name)-1]].(string)
	if err := json.Unmarshal([]byte(s), v); err != nil {
		t.Fatalf("%s: %v: %v\n%s", o.ID, name, err, s)
	}
}

// visState is what a visualization draws.
type visState struct {
	Title, Type string
	Aggs        []visAgg
}

// visAgg is a metric of it, or a way to part it.
type visAgg struct {
	ID, Type, Schema string
	Params           struct {
		Field, OrderBy string
		Size           int
	}
}

// searchSource is where it looks.
type searchSource struct {
	Query        struct{ Query, Language string }
	IndexRefName string
}

func savedObjects(t *testing.T) (all []savedObject, by map[string]*savedObject) {
	t.Helper()
	by = map[string]*savedObject{}
	for _, line := range strings.Split(strings.TrimSpace(text(t, "pipelines/article/dashboards/article.ndjson")), "\n") {
		var o savedObject
		d := json.NewDecoder(strings.NewReader(line))
		d.DisallowUnknownFields()
		if err := d.Decode(&o); err != nil {
			t.Fatalf("%v\n%s", err, line)
		}
		all = append(all, o)
	}
	for i := range all {
		key := all[i].Type + "/" + all[i].ID
		if by[key] != nil {
			t.Errorf("%s is there twice", key)
		}
		by[key] = &all[i]
	}
	return all, by
}

// draws is a visualization with the index that it looks into.
type draws struct {
	title, index, query string
	state               visState
}

// drawn are the visualizations.
func drawn(t *testing.T) (list []draws) {
	t.Helper()
	all, by := savedObjects(t)
	for i := range all {
		if o := &all[i]; o.Type == "visualization" {
			var d draws
			var source searchSource
			o.text(t, &d.state, "visState")
			o.text(t, &source, "kibanaSavedObjectMeta", "searchSourceJSON")
			if len(o.References) != 1 || o.References[0].Name != source.IndexRefName || source.Query.Language != "lucene" || d.state.Title != o.Attributes["title"] {
				t.Fatalf("%s: %+v, %+v", o.ID, o.References, source)
			}
			pattern := by["index-pattern/"+o.References[0].ID]
			if pattern == nil {
				t.Fatalf("%s: there is no index pattern %s", o.ID, o.References[0].ID)
			}
			d.title, d.index, d.query = d.state.Title, pattern.Attributes["title"].(string), source.Query.Query
			list = append(list, d)
		}
	}
	return list
}

// fieldAt finds a field of a template by its path.
func fieldAt(x indexTemplate, path string) string {
	f := esField{Properties: x.Template.Mappings.Properties}
	for _, part := range strings.Split(path, ".") {
		f = f.Properties[part]
	}
	return f.Type
}

// Every reference of the dashboards leads somewhere, every field that they draw is one of the example's templates with a type that can be drawn so,
// every visualization stands on a dashboard and no two panels lie over each other.
func TestDashboards(t *testing.T) {
	all, by := savedObjects(t)
	shown := map[string]bool{}
	for i := range all {
		o := &all[i]
		for _, r := range o.References {
			if by[r.Type+"/"+r.ID] == nil {
				t.Errorf("%s refers to %s/%s, which is not there", o.ID, r.Type, r.ID)
			}
			shown[r.Type+"/"+r.ID] = true
		}
		// The oldest form that all of them read: that of 7.10.
		if want := map[string]string{"index-pattern": "7.6.0", "visualization": "7.10.0", "dashboard": "7.9.3"}[o.Type]; want == "" || o.MigrationVersion[o.Type] != want || len(o.MigrationVersion) != 1 {
			t.Errorf("%s %s: %v", o.Type, o.ID, o.MigrationVersion)
		}
		if o.Type != "dashboard" {
			continue
		}
		var panels []struct {
			GridData     struct{ X, Y, W, H int }
			PanelRefName string
		}
		o.text(t, &panels, "panelsJSON")
		var cells = map[[2]int]string{}
		var names []string
		for _, p := range panels {
			names = append(names, p.PanelRefName)
			for x := p.GridData.X; x < p.GridData.X+p.GridData.W; x++ {
				for y := p.GridData.Y; y < p.GridData.Y+p.GridData.H; y++ {
					if was := cells[[2]int{x, y}]; was != "" || x >= 48 {
						t.Fatalf("%s lies over %s, or out of the grid", p.PanelRefName, was)
					}
					cells[[2]int{x, y}] = p.PanelRefName
				}
			}
		}
		for _, r := range o.References {
			if i := slices.Index(names, r.Name); i < 0 {
				t.Errorf("%s has no panel", r.Name)
			} else {
				names = slices.Delete(names, i, i+1)
			}
		}
		if len(names) > 0 || len(o.References) < 4 {
			t.Errorf("panels without reference: %v", names)
		}
	}
	for key, o := range by {
		if o.Type != "dashboard" && !shown[key] {
			t.Errorf("nothing shows %s", key)
		}
	}
	templates := printed(t, build(t), "pipelines/article/search.yaml")
	suits := map[string][]string{"sum": {"long", "double"}, "max": {"long", "double"}, "date_histogram": {"date"}, "terms": {"keyword", "ip", "boolean"}}
	queried := regexp.MustCompile(`([A-Za-z_@][\w.@]*):`)
	for _, d := range drawn(t) {
		x, ok := templates["tocsin."+d.index]
		if !ok {
			t.Fatalf("%s: index %s has no template", d.title, d.index)
		}
		ids := map[string]bool{}
		for _, a := range d.state.Aggs {
			ids[a.ID] = true
			if a.Type == "count" && a.Params.Field == "" {
				continue
			}
			if typ := fieldAt(x, a.Params.Field); !slices.Contains(suits[a.Type], typ) {
				t.Errorf("%s: %s of %s, which is %q in %s", d.title, a.Type, a.Params.Field, typ, d.index)
			}
		}
		for _, a := range d.state.Aggs {
			if a.Params.OrderBy != "" && !ids[a.Params.OrderBy] {
				t.Errorf("%s: ordered by %s", d.title, a.Params.OrderBy)
			}
		}
		for _, m := range queried.FindAllStringSubmatch(d.query, -1) {
			if typ := fieldAt(x, m[1]); typ != "keyword" {
				t.Errorf("%s: the query is about %s, which is %q", d.title, m[1], typ)
			}
		}
	}
}

// searchedArticle collects the example's logs onto topics and runs the pipeline for the dashboards over them. It gives the values by topic.
func searchedArticle(t *testing.T, binary, url string, prepare func(pipeline string)) map[string]map[string]string {
	t.Helper()
	broker, dir := fakeBroker(t), t.TempDir()
	client := kafkaClient(t, broker, articleTopics[:]...)
	if err := (gen.Article{Seed: 11, Events: 20_000}).Write(context.Background(), dir); err != nil {
		t.Fatal(err)
	}
	collect := article(t, dir, broker, "collect.yaml", "follow: true", "follow: false")
	search := article(t, dir, broker, "search.yaml", "consumer_group", "until: end\n    consumer_group", "${ELASTICSEARCH:http://127.0.0.1:19200}", url)
	prepare(search)
	for _, pipeline := range []string{collect, search} {
		if out, err := exec.Command(binary, "run", pipeline).CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
	}
	if _, err := os.Stat(filepath.Join(dir, "state", "article_search")); err != nil {
		t.Fatal(err)
	}
	values, _ := onTopics(t, client, broker)
	return values
}

// loginsOf counts the logins on the topic by address and result, and in all by result.
func loginsOf(t *testing.T, values map[string]map[string]string) (by, all map[string]int) {
	t.Helper()
	by, all = map[string]int{}, map[string]int{}
	for _, v := range values["logins"] {
		var e struct{ IP, Result string }
		if err := json.Unmarshal([]byte(v), &e); err != nil {
			t.Fatal(err)
		}
		by[e.IP+" "+e.Result]++
		all[e.Result]++
	}
	return by, all
}

// What gets to the index is what the lines say: logins by address and result, and the alerts.
func TestArticleSearch(t *testing.T) {
	s := double.New()
	defer s.Close()
	values := searchedArticle(t, build(t), s.URL, func(string) {})
	want, _ := loginsOf(t, values)
	got := map[string]int{}
	risks := 0
	for _, d := range s.Docs("article-row") {
		var row struct {
			IP, Result, Entity string
			Logins             int
			Tocsin             struct{ Operator string } `json:"_tocsin"`
		}
		if err := json.Unmarshal([]byte(d.Source), &row); err != nil {
			t.Fatal(err)
		}
		switch row.Tocsin.Operator {
		case "logins_a_minute":
			got[row.IP+" "+row.Result] += row.Logins
		case "at_risk":
			if risks++; row.Entity != gen.Attacker && row.Entity != "backup" {
				t.Errorf("%s", d.Source)
			}
		}
	}
	if !maps.Equal(got, want) || len(want) == 0 || risks == 0 {
		t.Errorf("%d risks\n%v\nwant\n%v", risks, got, want)
	}
	alerts := map[string]bool{}
	for _, d := range s.Docs("article-alert") {
		var a struct{ Title string }
		if err := json.Unmarshal([]byte(d.Source), &a); err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(a.Title, " has a risk of ") {
			alerts[a.Title] = true
		}
	}
	if want := articleAlerts(t, values); !maps.Equal(alerts, want) {
		t.Errorf("%v\nwant\n%v", alerts, want)
	}
	if len(s.Docs("article-error"))+len(s.Docs("article-late")) > 0 {
		t.Errorf("%v", s.Indexes())
	}
}

// request is the search that a visualization asks for: buckets in each other, and the metrics in the innermost.
func (d *draws) request() string {
	metrics, buckets := map[string]any{}, []map[string]any{}
	for _, a := range d.state.Aggs {
		body := map[string]any{"field": a.Params.Field}
		switch a.Type {
		case "count":
			continue
		case "sum", "max":
			metrics[a.ID] = map[string]any{a.Type: body}
			continue
		case "date_histogram":
			body["fixed_interval"], body["min_doc_count"] = "1m", 1
		case "terms":
			order := a.Params.OrderBy
			if !slices.ContainsFunc(d.state.Aggs, func(x visAgg) bool { return x.ID == order && x.Type != "count" }) {
				order = "_count"
			}
			body["size"], body["order"] = a.Params.Size, map[string]any{order: "desc"}
		}
		buckets = append(buckets, map[string]any{a.Type: body})
	}
	inner := metrics
	for _, b := range slices.Backward(buckets) {
		aggs := map[string]any{}
		maps.Copy(aggs, metrics) // a bucket may be ordered by them
		if _, last := inner["bucket"]; last {
			aggs["bucket"] = inner["bucket"]
		}
		b["aggs"] = aggs
		inner = map[string]any{"bucket": b}
	}
	query := map[string]any{"match_all": map[string]any{}}
	if d.query != "" {
		query = map[string]any{"query_string": map[string]any{"query": d.query}}
	}
	text, _ := json.Marshal(map[string]any{"size": 0, "query": query, "aggs": inner})
	return string(text)
}

// bucket is one of an answer, with those in it.
type bucket struct {
	Key    any
	Count  int                     `json:"doc_count"`
	One    struct{ Value float64 } `json:"1"`
	Bucket struct{ Buckets []bucket }
}

// A real OpenSearch or Elasticsearch draws what the dashboards ask for: the sums are those of the logs.
func TestIntegrationDashboards(t *testing.T) { realIndexes(t, "19640", dashed) }

func dashed(t *testing.T, _, url string, _ func(verb string) string) {
	binary := build(t)
	values := searchedArticle(t, binary, url, func(pipeline string) {
		if out, err := exec.Command(binary, "elasticsearch", "templates", "--install", pipeline).CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
	})
	asks(t, "POST", url+"/article-*/_refresh", "")
	by, all := loginsOf(t, values)
	for _, d := range drawn(t) {
		answer := asks(t, "POST", url+"/"+d.index+"/_search", d.request())
		var got struct {
			Hits struct{ Total struct{ Value int } }
			Aggs struct{ Bucket struct{ Buckets []bucket } } `json:"aggregations"`
		}
		if err := json.Unmarshal(answer, &got); err != nil {
			t.Fatal(err)
		}
		buckets := got.Aggs.Bucket.Buckets
		if len(buckets) == 0 || got.Hits.Total.Value == 0 {
			t.Errorf("%s: nothing\n%s\n%s", d.title, d.request(), answer)
			continue
		}
		switch d.title {
		case "Logins over time":
			sums := map[string]int{}
			for _, minute := range buckets {
				for _, b := range minute.Bucket.Buckets {
					sums[fmt.Sprint(b.Key)] += int(b.One.Value)
				}
			}
			if !maps.Equal(sums, all) {
				t.Errorf("%v, want %v", sums, all)
			}
		case "Addresses with most failed logins":
			if buckets[0].Key != gen.Attacker {
				t.Errorf("%v", buckets[0])
			}
			for _, b := range buckets {
				if n := by[fmt.Sprint(b.Key)+" Failed"]; n != int(b.One.Value) {
					t.Errorf("%v: %v, want %d", b.Key, b.One.Value, n)
				}
			}
		case "Alerts by severity":
			n := 0
			for _, b := range buckets {
				n += b.Count
			}
			if n != got.Hits.Total.Value || len(buckets) < 3 {
				t.Errorf("%v", buckets)
			}
		case "Risk by entity":
			if buckets[0].Key != gen.Attacker || buckets[0].One.Value < 100 || len(buckets[0].Bucket.Buckets) != 1 || buckets[0].Bucket.Buckets[0].Key != "ip" {
				t.Errorf("%+v", buckets)
			}
		}
	}
}
