package main

import (
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

var allToolchains = flag.Bool("toolchains", false, "also those that take a minute: Rust's core is built from source")

// What `tocsin plugin new` makes builds and keeps its cases at once, in each language whose toolchain is here.
func TestPluginNew(t *testing.T) {
	binary, dir := build(t), t.TempDir()
	sdk, err := filepath.Abs("sdk")
	if err != nil {
		t.Fatal(err)
	}
	run := func(name string, args ...string) (string, error) {
		cmd := exec.Command(name, args...)
		cmd.Dir = dir
		cmd.Env = append(os.Environ(), "TOCSIN="+binary, "XDG_CACHE_HOME="+filepath.Join(dir, "cache"), "GOFLAGS=", "RUSTC_BOOTSTRAP=1", "CARGO_TARGET_DIR="+filepath.Join(dir, "target"))
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	for lang, tool := range map[string]struct {
		here bool
		args []string
	}{
		"c":    {here: exec.Command("python3", "-m", "ziglang", "version").Run() == nil},
		"rust": {here: *allToolchains && hasRust(), args: []string{"--quiet", "--offline", "--config", filepath.Join(sdk, "rust/debian.toml")}},
		"go":   {here: true},
	} {
		t.Run(lang, func(t *testing.T) {
			name := "my_" + lang
			out, err := run(binary, "plugin", "new", "--lang", lang, "--sdk", sdk, name)
			if err != nil || !strings.Contains(out, name+"/build.sh") {
				t.Fatalf("%v\n%s", err, out)
			}
			if out, err := run(binary, "plugin", "new", "--lang", lang, "--sdk", sdk, name); err == nil || !strings.Contains(out, "file exists") {
				t.Errorf("%v\n%s", err, out)
			}
			if !tool.here {
				t.Skip("its toolchain is not here, or was not asked for by -toolchains")
			}
			if lang == "rust" {
				t.Setenv("PATH", "/usr/bin:"+os.Getenv("PATH")) // not rustup's
			}
			if out, err := run(filepath.Join(dir, name, "build.sh"), tool.args...); err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			if out, err := run(binary, "plugin", "test", name+"/"+name+".wasm"); err != nil || !strings.Contains(out, "3 of 3 cases pass") {
				t.Errorf("%v\n%s", err, out)
			}
		})
	}
	for args, want := range map[string]string{
		"":                            "it needs one name",
		"a b":                         "it needs one name",
		"My-Rule":                     `the name is "My-Rule"; it must be lower-case letters`,
		"--lang zig a":                "there is no --lang zig; there are c, rust and go",
		"--sdk nowhere a":             "--sdk says where the folder sdk of Tocsin's sources is",
		"--language c a":              "flag provided but not defined",
		"--lang rust --sdk nowhere a": "nowhere/rust: no such file",
	} {
		if out, err := run(binary, append([]string{"plugin", "new"}, strings.Fields(args)...)...); err == nil || !strings.Contains(out, want) {
			t.Errorf("%q: %v, %s", args, err, out)
		}
	}
}

// hasRust says whether Debian's rustc-web is here; another toolchain may lack the target.
func hasRust() bool {
	for _, path := range []string{"/usr/bin/cargo", "/usr/lib/rustlib/src/rust/library/vendor"} {
		if _, err := os.Stat(path); err != nil {
			return false
		}
	}
	return exec.Command("wasm-ld-22", "--version").Run() == nil
}
