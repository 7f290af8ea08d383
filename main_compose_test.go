package main

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"gopkg.in/yaml.v3"

	"github.com/seed-98920119/tocsin/runtime/cli"
)

// composed is what a test wants to know of a service of compose/compose.yaml.
type composed struct {
	Image       string
	Profiles    []string
	Build       struct{ Context, Dockerfile string }
	User        string
	ReadOnly    bool     `yaml:"read_only"`
	CapDrop     []string `yaml:"cap_drop"`
	Entrypoint  []string
	Command     []string
	Environment map[string]string
	Ports       []string
	Volumes     []string
	Tmpfs       []string
	Healthcheck struct {
		Test    []string
		Disable bool
	}
	DependsOn map[string]struct{ Condition string } `yaml:"depends_on"`
}

// own says whether it runs our image.
func (c *composed) own() bool { return c.Build.Context != "" }

// run are the pipeline that it runs and the address that --http names; empty: it runs none.
func (c *composed) run() (pipeline, address string) {
	if len(c.Entrypoint) > 0 || len(c.Command) == 0 {
		return "", ""
	}
	if i := slices.Index(c.Command, "--http"); i >= 0 {
		address = c.Command[i+1]
	}
	return c.Command[len(c.Command)-1], address
}

// readYAML reads a file, and returns its text.
func readYAML(t *testing.T, path string, into any) (text string) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := yaml.Unmarshal(b, into); err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	return string(b)
}

func readCompose(t *testing.T) (services map[string]*composed, volumes map[string]any, text string) {
	t.Helper()
	var file struct {
		Services map[string]*composed
		Volumes  map[string]any
	}
	text = readYAML(t, "compose/compose.yaml", &file)
	if len(file.Services) < 10 {
		t.Fatalf("%d services", len(file.Services))
	}
	return file.Services, file.Volumes, text
}

// What is mounted is there: files and folders beside the compose file, or volumes that it declares, each of them used.
func TestComposeMounts(t *testing.T) {
	services, volumes, _ := readCompose(t)
	used := map[string]bool{}
	for name, s := range services {
		targets := map[string]bool{}
		for _, v := range s.Volumes {
			parts := strings.Split(variable.ReplaceAllString(v, "$3"), ":")
			if len(parts) < 2 || !filepath.IsAbs(parts[1]) || targets[parts[1]] {
				t.Errorf("%s: %s", name, v)
				continue
			}
			targets[parts[1]] = true
			source := parts[0]
			switch {
			case strings.HasPrefix(source, "."):
				source = filepath.Join("compose", source)
			case !filepath.IsAbs(source):
				used[source] = true
				continue
			}
			if _, err := os.Stat(source); err != nil || len(parts) != 3 || parts[2] != "ro" {
				t.Errorf("%s mounts %s: %v", name, v, err)
			}
		}
	}
	for v := range used {
		if _, ok := volumes[v]; !ok {
			t.Errorf("the volume %s is not declared", v)
		}
	}
	if len(used) != len(volumes) {
		t.Errorf("%d of %d volumes are used", len(used), len(volumes))
	}
}

// variable is one of the environment that Benthos or compose fills in, and what it is without.
var variable = regexp.MustCompile(`\$\{([A-Z][A-Z0-9_]*)(:-?([^}]*))?\}`)

// Each variable that a pipeline reads is set where it runs, or has a default that means the same in a container; and what is set is read.
func TestComposeEnvironment(t *testing.T) {
	services, _, text := readCompose(t)
	ran := 0
	for name, s := range services {
		file, address := s.run()
		if !s.own() || file == "" {
			continue
		}
		runs := address != "" // those that do not are about the index alone
		if !runs && s.Environment["ELASTICSEARCH"] == "" {
			t.Errorf("%s knows no index", name)
		}
		ran++
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		read := map[string]bool{}
		for _, m := range variable.FindAllStringSubmatch(string(b), -1) {
			read[m[1]] = true
			here := strings.Contains(m[3], "127.0.0.1") || strings.Contains(m[3], "localhost")
			if s.Environment[m[1]] == "" && (m[2] == "" || here && runs) {
				t.Errorf("%s: %s reads %s, which is not set", name, file, m[0])
			}
		}
		for _, m := range regexp.MustCompile(`_env: ([A-Z][A-Z0-9_]*)`).FindAllStringSubmatch(string(b), -1) {
			read[m[1]] = true
			if s.Environment[m[1]] == "" && runs {
				t.Errorf("%s: %s needs %s, which is not set", name, file, m[1])
			}
		}
		for v, value := range s.Environment {
			if !read[v] && v != "GOOGLE_APPLICATION_CREDENTIALS" {
				t.Errorf("%s: %s does not read %s", name, file, v)
			}
			t.Setenv(v, variable.ReplaceAllString(value, "$3"))
		}
		var out bytes.Buffer
		if status := cli.Main([]string{"lint", file}, &out, &out); status != 0 && runs {
			t.Errorf("%s: lint says\n%s", name, out.String())
		}
	}
	if ran < 4 {
		t.Errorf("%d pipelines run", ran)
	}
	for _, m := range variable.FindAllStringSubmatch(text, -1) {
		if !strings.HasPrefix(m[2], ":-") || m[3] == "" {
			t.Errorf("%s has no default", m[0])
		}
	}
}

// Addresses within lead to services and to ports that they listen on, ports of the machine collide nowhere and are on loopback, and topics are
// made of which pipelines know.
func TestComposePorts(t *testing.T) {
	services, _, text := readCompose(t)
	listens := map[string]bool{"kafka:9092": true, "kafka:9093": true, "opensearch:9200": true, "prometheus:9090": true}
	taken := map[string]string{}
	for name, s := range services {
		for _, p := range s.Ports {
			parts := strings.Split(p, ":")
			if len(parts) != 3 || parts[0] != "127.0.0.1" {
				t.Fatalf("%s: %s is not of loopback", name, p)
			}
			if other, ok := taken[parts[1]]; ok {
				t.Errorf("%s and %s both take port %s", name, other, parts[1])
			}
			taken[parts[1]] = name
			listens[name+":"+parts[2]] = true
		}
		if _, address := s.run(); s.own() && address != "" {
			host, port, ok := strings.Cut(address, ":")
			if listens[name+":"+port] = true; !ok || host != "0.0.0.0" {
				t.Errorf("%s: %s", name, address)
			}
		}
		for on, how := range s.DependsOn {
			other := services[on]
			if other == nil || how.Condition == "service_healthy" && len(other.Healthcheck.Test) == 0 {
				t.Errorf("%s waits for %s, %s", name, on, how.Condition)
			}
		}
	}
	for _, file := range []string{"compose/prometheus.yaml", "compose/grafana/datasource.yaml"} {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		text += string(b)
	}
	found := 0
	for _, m := range regexp.MustCompile(`\b([a-z]+):(\d{4,5})\b`).FindAllStringSubmatch(text, -1) {
		if services[m[1]] == nil {
			continue
		}
		if found++; !listens[m[0]] {
			t.Errorf("nothing listens on %s", m[0])
		}
	}
	if found < 15 {
		t.Errorf("%d addresses", found)
	}
	made := regexp.MustCompile(`for t in ([a-z -]+);`).FindStringSubmatch(strings.Join(services["topics"].Command, " "))
	var want []string
	for _, s := range services {
		file, _ := s.run()
		if !s.own() || file == "" {
			continue
		}
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range regexp.MustCompile(`\btopic: ([\w-]+)`).FindAllStringSubmatch(string(b), -1) {
			want = append(want, m[1])
		}
	}
	slices.Sort(want)
	want = slices.Compact(want)
	if made == nil || !slices.Equal(slices.Sorted(slices.Values(strings.Fields(made[1]))), want) {
		t.Errorf("topics %q, and pipelines have %q", made, want)
	}
}

// Images are those of versions, the same everywhere, and those that the scripts in servers/ start where they start one.
func TestComposeImages(t *testing.T) {
	services, _, _ := readCompose(t)
	version := func(script, pattern string) string {
		b, err := os.ReadFile(script)
		if err != nil {
			t.Fatal(err)
		}
		m := regexp.MustCompile(pattern).FindSubmatch(b)
		if m == nil {
			t.Fatalf("%s names no version", script)
		}
		return string(m[1])
	}
	index := version("servers/opensearch.sh", `OPENSEARCH_VERSION:-([\d.]+)`)
	must := map[string]string{"apache/kafka": version("servers/kafka.sh", `KAFKA_VERSION:-([\d.]+)`), "opensearchproject/opensearch": index, "opensearchproject/opensearch-dashboards": index,
		"apicurio/apicurio-registry": version("servers/registry.sh", `echo (\d[\d.]+) \|\|`)}
	for name, s := range services {
		if s.own() {
			continue
		}
		image, tag, _ := strings.Cut(s.Image, ":")
		if !regexp.MustCompile(`^v?\d+\.\d+\.\d+$`).MatchString(tag) {
			t.Errorf("%s: %s names no version", name, s.Image)
		}
		if v, ok := must[image]; ok && v != tag {
			t.Errorf("%s: %s, and servers/ has %s", name, s.Image, v)
		}
	}
}

// What is ours runs without rights, writes to volumes and /tmp alone, and is asked whether it lives where it listens.
func TestComposeIsConfined(t *testing.T) {
	services, _, _ := readCompose(t)
	for name, s := range services {
		if !s.own() {
			continue
		}
		if s.User != "65532:65532" || !s.ReadOnly || !slices.Equal(s.CapDrop, []string{"ALL"}) || !slices.Equal(s.Tmpfs, []string{"/tmp"}) {
			t.Errorf("%s is not confined: user %s, read_only %v, cap_drop %v, tmpfs %v", name, s.User, s.ReadOnly, s.CapDrop, s.Tmpfs)
		}
		file, address := s.run()
		_, port, _ := strings.Cut(address, ":")
		switch {
		case address != "" && !slices.Equal(s.Healthcheck.Test, []string{"CMD", "/live", "http://127.0.0.1:" + port + "/live"}):
			t.Errorf("%s: %v is asked", name, s.Healthcheck.Test)
		case address == "" && file != "" && !s.Healthcheck.Disable:
			t.Errorf("%s does not listen", name)
		}
		for _, folder := range []string{"/srv/state", "/srv/out", "/srv/logs"} {
			if !slices.ContainsFunc(s.Volumes, func(v string) bool { return strings.HasSuffix(v, ":"+folder) }) {
				t.Errorf("%s keeps no %s", name, folder)
			}
		}
	}
}

// The image is built by go.mod's Go from what is there, holds the programs that are started, and has a user without rights.
func TestComposeDockerfile(t *testing.T) {
	b, err := os.ReadFile("compose/Dockerfile")
	if err != nil {
		t.Fatal(err)
	}
	text := string(b)
	mod, err := os.ReadFile("go.mod")
	if err != nil {
		t.Fatal(err)
	}
	goes := regexp.MustCompile(`(?m)^go (\S+)$`).FindSubmatch(mod)
	stages := regexp.MustCompile(`(?m)^FROM (\S+)`).FindAllStringSubmatch(text, -1)
	if len(stages) != 2 || stages[0][1] != "golang:"+string(goes[1])+"-alpine" || stages[1][1] != "scratch" {
		t.Errorf("stages %v, and go.mod says %s", stages, goes[1])
	}
	last := text[strings.LastIndex(text, "\nFROM "):]
	for _, m := range regexp.MustCompile(`(?m)^COPY ([a-z]\S*)`).FindAllStringSubmatch(last, -1) {
		if _, err := os.Stat(m[1]); err != nil {
			t.Error(err)
		}
	}
	if !strings.Contains(last, "\nUSER 65532:65532\n") || !strings.Contains(last, "\nWORKDIR /srv\n") {
		t.Error("the image has no user or working directory")
	}
	programs := map[string]bool{"/tocsin": true}
	for _, m := range regexp.MustCompile(`\./([\w/]+)`).FindAllStringSubmatch(text[:len(text)-len(last)], -1) {
		if _, err := os.Stat(filepath.Join(m[1], "main.go")); err == nil {
			programs["/"+filepath.Base(m[1])] = true
		}
	}
	services, _, _ := readCompose(t)
	for name, s := range services {
		if !s.own() {
			continue
		}
		if s.Build.Context != ".." || s.Build.Dockerfile != "compose/Dockerfile" {
			t.Errorf("%s is built from %+v", name, s.Build)
		}
		if len(s.Entrypoint) > 0 && !programs[s.Entrypoint[0]] {
			t.Errorf("%s: the image has no %s", name, s.Entrypoint[0])
		}
		if h := s.Healthcheck.Test; len(h) > 1 && !programs[h[1]] {
			t.Errorf("%s: the image has no %s", name, h[1])
		}
	}
}

// What Prometheus and Grafana are given is where they look for it, and every run is scraped.
func TestComposeMonitoring(t *testing.T) {
	services, _, _ := readCompose(t)
	var prometheus struct {
		RuleFiles     []string `yaml:"rule_files"`
		ScrapeConfigs []struct {
			StaticConfigs []struct{ Targets []string } `yaml:"static_configs"`
			DNS           []struct {
				Names []string
				Port  string
			} `yaml:"dns_sd_configs"`
		} `yaml:"scrape_configs"`
	}
	readYAML(t, "compose/prometheus.yaml", &prometheus)
	var dashboards struct {
		Providers []struct{ Options struct{ Path string } }
	}
	readYAML(t, "compose/grafana/dashboards.yaml", &dashboards)
	mounted := func(service, source, target string) {
		t.Helper()
		if !slices.Contains(services[service].Volumes, source+":"+target+":ro") {
			t.Errorf("%s does not have %s as %s", service, source, target)
		}
	}
	mounted("prometheus", "./prometheus.yaml", "/etc/prometheus/prometheus.yml")
	mounted("prometheus", "../monitoring/prometheus_rules.yaml", prometheus.RuleFiles[0])
	mounted("grafana", "../monitoring/grafana.json", dashboards.Providers[0].Options.Path+"/tocsin.json")
	var want []string
	for name, s := range services {
		if _, address := s.run(); s.own() && address != "" {
			want = append(want, name+strings.TrimPrefix(address, "0.0.0.0"))
		}
	}
	slices.Sort(want)
	scrape := prometheus.ScrapeConfigs[0]
	got := slices.Clone(scrape.StaticConfigs[0].Targets)
	for _, name := range got { // those that may be away are looked up, since one that should be there raises an alarm
		if service, _, _ := strings.Cut(name, ":"); len(services[service].Profiles) > 0 {
			t.Errorf("%s is not always there", name)
		}
	}
	for _, name := range scrape.DNS[0].Names {
		got = append(got, name+":"+scrape.DNS[0].Port)
	}
	slices.Sort(got)
	if !slices.Equal(got, want) || len(want) < 3 {
		t.Errorf("%v are scraped, and %v listen", got, want)
	}
}

// The program that asks whether a run lives says so by its status.
func TestComposeLive(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/live" {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	}))
	defer server.Close()
	binary := filepath.Join(t.TempDir(), "live")
	if out, err := exec.Command("go", "build", "-o", binary, "./compose/live").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	ask := func(args ...string) (string, error) {
		var said bytes.Buffer
		cmd := exec.Command(binary, args...)
		cmd.Stderr = &said
		err := cmd.Run()
		return said.String(), err
	}
	if said, err := ask(server.URL + "/live"); err != nil {
		t.Errorf("%v: %s", err, said)
	}
	if said, err := ask(server.URL); err == nil || !strings.Contains(said, "503") {
		t.Errorf("%v: %s", err, said)
	}
	server.Close()
	if said, err := ask(server.URL); err == nil || !strings.Contains(said, "refused") {
		t.Errorf("%v: %s", err, said)
	}
	if said, err := ask(); err == nil || !strings.Contains(said, "usage") {
		t.Errorf("%v: %s", err, said)
	}
}
