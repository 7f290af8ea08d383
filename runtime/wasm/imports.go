package wasm

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/seed-98920119/tocsin/abi"
)

// Names of the host's own in rewritten modules; a guest can neither import nor export them.
const (
	reservedPrefix = "tocsin:"
	gateModule     = "tocsin:gate"
	exportFuel     = "tocsin:fuel"
	exportDepth    = "tocsin:depth"
	wasiModule     = "wasi_snapshot_preview1"
	envModule      = "env"
)

// importable are the functions that a module may import, with their exact types: i is i32, I is i64, the result behind the
// colon.
var importable = map[string]map[string]functype{
	abi.ImportModule: signatures(map[string]string{
		"log": "iii:", "fail": "ii:", "now": "i:I", "random": "iii:i", "metric": "iI:",
		"state_get": "iiii:I", "state_put": "iiii:i", "state_del": "ii:i", "state_add": "iiI:I",
		"map_get": "iiiiii:I", "map_put": "iiiiii:i", "map_del": "iiii:i", "map_count": "ii:I", "map_next": "iiiiii:I",
		"timer_set": "iII:i", "timer_del": "iI:i", "lookup": "iiiii:I",
	}),
	// WASI preview 1: every name, so that the start of a language's runtime links. All of it is inert (wasi.go).
	wasiModule: signatures(map[string]string{
		"args_get": "ii:i", "args_sizes_get": "ii:i", "environ_get": "ii:i", "environ_sizes_get": "ii:i",
		"clock_res_get": "ii:i", "clock_time_get": "iIi:i", "fd_advise": "iIIi:i", "fd_allocate": "iII:i", "fd_close": "i:i",
		"fd_datasync": "i:i", "fd_fdstat_get": "ii:i", "fd_fdstat_set_flags": "ii:i", "fd_fdstat_set_rights": "iII:i",
		"fd_filestat_get": "ii:i", "fd_filestat_set_size": "iI:i", "fd_filestat_set_times": "iIIi:i", "fd_pread": "iiiIi:i",
		"fd_prestat_get": "ii:i", "fd_prestat_dir_name": "iii:i", "fd_pwrite": "iiiIi:i", "fd_read": "iiii:i", "fd_readdir": "iiiIi:i",
		"fd_renumber": "ii:i", "fd_seek": "iIii:i", "fd_sync": "i:i", "fd_tell": "ii:i", "fd_write": "iiii:i",
		"path_create_directory": "iii:i", "path_filestat_get": "iiiii:i", "path_filestat_set_times": "iiiiIIi:i", "path_link": "iiiiiii:i",
		"path_open": "iiiiiIIii:i", "path_readlink": "iiiiii:i", "path_remove_directory": "iii:i", "path_rename": "iiiiii:i",
		"path_symlink": "iiiii:i", "path_unlink_file": "iii:i", "poll_oneoff": "iiii:i", "proc_exit": "i:", "proc_raise": "i:i",
		"sched_yield": ":i", "random_get": "ii:i", "sock_accept": "iii:i", "sock_recv": "iiiiii:i", "sock_send": "iiiii:i", "sock_shutdown": "ii:i",
	}),
	envModule: signatures(map[string]string{"abort": "iiii:"}), // AssemblyScript's assertions
}

func signatures(texts map[string]string) map[string]functype {
	out := map[string]functype{}
	for name, text := range texts {
		params, results, _ := strings.Cut(text, ":")
		out[name] = functype{valueTypes(params), valueTypes(results)}
	}
	return out
}

func valueTypes(s string) []byte {
	b := []byte(s)
	for i, c := range b {
		b[i] = map[byte]byte{'i': 0x7f, 'I': 0x7e}[c]
	}
	return b
}

// checkImport says what is wrong with an import, or nothing.
func checkImport(module, name string, typ functype) string {
	shown := printable([]byte(module+"."+name), 200)
	names, ok := importable[module]
	if !ok {
		return fmt.Sprintf("it imports %s; a module may import from %s only", shown, strings.Join(slices.Sorted(maps.Keys(importable)), ", "))
	}
	want, ok := names[name]
	if !ok {
		return fmt.Sprintf("it imports %s, which there is not", shown)
	}
	if !typ.equal(want) {
		return fmt.Sprintf("it imports %s with the type %s; it has %s", shown, typ, want)
	}
	return ""
}
