package main

import (
	"encoding/json"
	"io"
	"math/rand/v2"
	"net/http"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/seed-98920119/tocsin/runtime/elastic/double"
)

// asks sends a request to the cluster and gives the answer, which must be 2xx.
func asks(t *testing.T, method, url, body string) []byte {
	t.Helper()
	req, err := http.NewRequest(method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil || res.StatusCode >= 300 {
		t.Fatalf("%s %s: %d, %v\n%s", method, url, res.StatusCode, err, text)
	}
	return text
}

// searched is all documents of the indexes that a pattern names, by index and id, with how often each was written.
func searched(t *testing.T, url, pattern string) map[string]map[string]double.Stored {
	t.Helper()
	asks(t, "POST", url+"/"+pattern+"/_refresh", "")
	docs := map[string]map[string]double.Stored{}
	scroll := asks(t, "POST", url+"/"+pattern+"/_search?scroll=1m", `{"size":5000,"version":true,"seq_no_primary_term":true,"sort":["_doc"]}`)
	for {
		var page struct {
			ID   string `json:"_scroll_id"`
			Hits struct {
				Hits []struct {
					Index   string          `json:"_index"`
					ID      string          `json:"_id"`
					Version int64           `json:"_version"`
					Source  json.RawMessage `json:"_source"`
				}
			}
		}
		if err := json.Unmarshal(scroll, &page); err != nil {
			t.Fatal(err)
		}
		if len(page.Hits.Hits) == 0 {
			return docs
		}
		for _, h := range page.Hits.Hits {
			if docs[h.Index] == nil {
				docs[h.Index] = map[string]double.Stored{}
			}
			docs[h.Index][h.ID] = double.Stored{Version: h.Version, Source: string(h.Source)}
		}
		scroll = asks(t, "POST", url+"/_search/scroll", `{"scroll":"1m","scroll_id":"`+page.ID+`"}`)
	}
}

// realIndexes runs a test with a real OpenSearch, and with a real Elasticsearch where one can be started.
func realIndexes(t *testing.T, port string, test func(t *testing.T, name, url string, server func(verb string) string)) {
	for _, name := range []string{"opensearch", "elasticsearch"} {
		t.Run(name, func(t *testing.T) {
			if out, err := exec.Command("servers/"+name+".sh", "possible").CombinedOutput(); *integration && name == "elasticsearch" && err != nil {
				t.Skipf("%s", out)
			}
			url, server := realServer(t, name, port)
			test(t, name, url, server)
		})
	}
}

// backingIndex is the name of the first index of a data stream, with that of the stream.
var backingIndex = regexp.MustCompile(`^\.ds-(.*?)(?:-\d{4}\.\d\d\.\d\d)?-000001$`)

// withoutStreams deletes data streams. Of Elasticsearch there is a distribution that has no request for it.
func withoutStreams(t *testing.T, name, url string, server func(verb string) string) {
	t.Helper()
	if name == "elasticsearch" {
		server("wipe")
		server("up")
		return
	}
	asks(t, "DELETE", url+"/_data_stream/tocsin-*", "")
}

// The example, a data stream, rows that do not fit, and kill -9 of both sides at random moments, against real servers.
// `make integration` asks for it.
func TestIntegrationSearch(t *testing.T) { realIndexes(t, "19620", searchedFor) }

func searchedFor(t *testing.T, name, url string, server func(verb string) string) {
	binary := build(t)
	t.Run("example", func(t *testing.T) {
		pipeline := onElastic(t, t.TempDir(), url)
		for _, args := range [][]string{{"run", pipeline}, {"run", "--fresh", pipeline}} {
			if out, err := exec.Command(binary, args...).CombinedOutput(); err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
		}
		docs := map[string]map[string]string{}
		for index, all := range searched(t, url, "tocsin-*") {
			docs[index] = map[string]string{}
			for id, d := range all {
				if docs[index][id] = d.Source; d.Version != 1 {
					t.Errorf("%s/%s: %+v", index, id, d)
				}
			}
		}
		compareElastic(t, docs)
		asks(t, "DELETE", url+"/tocsin-*", "")
	})
	t.Run("data stream", func(t *testing.T) {
		asks(t, "PUT", url+"/_index_template/streams", `{"index_patterns":["tocsin-*"],"data_stream":{},"template":{"settings":{"number_of_replicas":0}}}`)
		pipeline := onElastic(t, t.TempDir(), url, "    metadata: true", "    metadata: true\n    data_stream: true")
		for _, args := range [][]string{{"run", pipeline}, {"run", "--fresh", pipeline}} {
			if out, err := exec.Command(binary, args...).CombinedOutput(); err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
		}
		docs := map[string]map[string]string{}
		for backing, all := range searched(t, url, "tocsin-*") {
			index := backingIndex.FindStringSubmatch(backing)[1]
			docs[index] = map[string]string{}
			for id, d := range all {
				docs[index][id] = d.Source
			}
		}
		compareElastic(t, docs)
		withoutStreams(t, name, url, server)
		if name == "opensearch" {
			asks(t, "DELETE", url+"/_index_template/streams", "")
		}
	})
	t.Run("mapping", func(t *testing.T) {
		out := conflicting(t, binary, url)
		docs := searched(t, url, "x-*")
		wantRefused(t, docs["x-row"], docs["x-error"], "failed to parse field [ip] of type [long]", out)
	})
	t.Run("killed", func(t *testing.T) {
		seed := uint64(time.Now().UnixNano())
		t.Logf("seed %d", seed)
		r := rand.New(rand.NewPCG(seed, 1))
		dir := t.TempDir()
		logins, ids := filepath.Join(dir, "logins.jsonl"), filepath.Join(dir, "ids.jsonl")
		larger(t, r, 300_000, logins, ids)
		change := []string{"pipelines/data/logins.jsonl", logins, "pipelines/data/ids.jsonl", ids, "login_attempts|gte: 5", "login_attempts|gte: 2"}
		want := elasticWanted(t, binary, mkdir(t, dir, "whole"), change...)
		pipeline := onElastic(t, mkdir(t, dir, "torn"), url, append([]string{"    metadata: true", "    retry_for: 1s"}, change...)...)
		disturbed := make(chan int)
		over := make(chan struct{})
		go func() { // the server is stopped and killed, too
			n := 0
			for took := time.Duration(0); ; {
				select {
				case <-over:
					disturbed <- n
					return
				case <-time.After(took + time.Duration(500+r.IntN(3000))*time.Millisecond): // it is there at least as long as it is not
				}
				began := time.Now()
				_ = exec.Command("servers/"+name+".sh", []string{"stop", "kill"}[n%2]).Run()
				_ = exec.Command("servers/"+name+".sh", "up").Run()
				n, took = n+1, time.Since(began)
			}
		}()
		kills := killedOften(t, rand.New(rand.NewPCG(seed, 2)), binary, pipeline, *kills/2, 100, 700)
		close(over)
		t.Logf("%d kills of the pipeline, %d ends of the server", kills, <-disturbed)
		server("up")
		got := searched(t, url, "tocsin-*")
		for index, docs := range want {
			wrong := 0
			for id, w := range docs {
				if g, ok := got[index][id]; !ok || g.Version != w.Version || !strings.Contains(g.Source, w.Source) {
					if wrong++; wrong < 5 {
						t.Errorf("seed %d: %s/%s: %+v, want %+v", seed, index, id, g, w)
					}
				}
			}
			if wrong > 0 || len(got[index]) != len(docs) {
				t.Errorf("seed %d: %s: %d documents, want %d, of which %d are wrong", seed, index, len(got[index]), len(docs), wrong)
			}
		}
	})
}
