// Package abi is the contract between Tocsin and its plugins: the words and numbers of README.md, the layout of batches, the
// manifest, and golden vectors by which an SDK can be tested. It needs the standard library alone, so that a host, a test
// bench or an SDK of somebody else can stand on it.
//
// Read README.md first: it is the contract. Then abi.go (the numbers), manifest.go, batch.go (what the host writes) and
// hits.go (what a detect plugin answers).
package abi

import "strconv"

// The version that this package speaks. The major number is the import module's name; minors only add.
const (
	Major = 1
	Minor = 0
)

// Names that a module and its host agree on.
const (
	ImportModule    = "tocsin_v1"
	ManifestSection = "tocsin.manifest.v1"

	ExportMemory  = "memory"
	ExportArena   = "tocsin_arena"
	ExportInit    = "tocsin_init"
	ExportProcess = "tocsin_process"
	ExportTimer   = "tocsin_timer"
	ExportMigrate = "tocsin_migrate"
	ExportUpdate  = "tocsin_agg_update" // these three instead of tocsin_process for the role aggregate
	ExportMerge   = "tocsin_agg_merge"
	ExportFinish  = "tocsin_agg_finish"
	ExportClose   = "tocsin_close"
	ExportStart   = "_initialize"
)

// Layout: magics are little endian u32, sizes and offsets are bytes.
const (
	BatchMagic = 0x31424354 // "TCB1"
	InitMagic  = 0x31494354 // "TCI1"

	HeaderSize     = 64
	InitHeaderSize = 32
	ColumnSize     = 48
	HitSize        = 16
	Padding        = 16 // zero bytes after the last buffer, for wide loads past its end

	// Offsets in the batch header of what the guest fills in.
	OffOutLen   = 36
	OffOutRows  = 56
	OffOutFlags = 60

	// Offsets in the batch header of what an aggregate is told: how many states there are, and the bytes of each.
	OffStates    = 40
	OffStateSize = 44
)

// Indices of columns that are not of the manifest's reads.
const (
	ColumnGroup  = 0xFFFFFF20 // u32: the state that a row goes into
	ColumnStates = 0xFFFFFF21 // fixed_binary: states
)

// Limits of a batch. A row that alone is larger than BatchMax is an error row.
const (
	BatchMax    = 8 << 20
	RowsMax     = 4096
	OutMax      = 4 << 20
	OutMin      = 4096 // out_cap is at least OutPerRow * rows + OutMin
	OutPerRow   = 16
	NoteMax     = 4096
	NoteDepth   = 8
	ArenaAlign  = 16
	ConfigMax   = 1 << 20
	FailTextMax = 1024
)

// Code is what guest and host functions answer: 0 is good, positive is reserved.
type Code int32

// The codes of README.md. Codes at and below CodePlugin are the plugin's own.
const (
	OK          Code = 0
	NotFound    Code = -1
	Invalid     Code = -2
	TooSmall    Code = -3
	Denied      Code = -4
	Quota       Code = -5
	Unsupported Code = -6
	Internal    Code = -7
	BadRow      Code = -8
	CodePlugin  Code = -64
)

var codeNames = [...]string{"ok", "not found", "invalid", "too small", "denied", "quota", "unsupported", "internal", "bad row"}

// String is the code's number and, where it has one, its name.
func (c Code) String() string {
	s := strconv.Itoa(int(c))
	switch {
	case c <= 0 && int(-c) < len(codeNames):
		return s + " (" + codeNames[-c] + ")"
	case c <= CodePlugin:
		return s + " (the plugin's own)"
	}
	return s
}

// Type is the type of a column.
type Type uint16

// The types and their numbers.
const (
	Bool        Type = 1 // bitmap
	I32         Type = 2
	I64         Type = 3
	U32         Type = 4
	U64         Type = 5
	F64         Type = 6
	UTF8        Type = 7  // i32 offsets and data
	Binary      Type = 8  // likewise
	TimestampMS Type = 9  // i64
	IP          Type = 10 // 16 bytes, IPv4 mapped into IPv6
	FixedBinary Type = 11
	ListUTF8    Type = 12
	ListI64     Type = 13
	ListU32     Type = 14
)

var typeNames = map[string]Type{"bool": Bool, "i32": I32, "i64": I64, "u32": U32, "u64": U64, "f64": F64, "utf8": UTF8, "binary": Binary,
	"timestamp_ms": TimestampMS, "ip": IP, "fixed_binary": FixedBinary, "list<utf8>": ListUTF8, "list<i64>": ListI64, "list<u32>": ListU32}

// Width is the bytes a row of a fixed-width type, 0 for bitmaps and types with offsets. A fixed_binary's width is elem_width.
func (t Type) Width() int {
	switch t {
	case I32, U32:
		return 4
	case I64, U64, F64, TimestampMS:
		return 8
	case IP:
		return 16
	}
	return 0
}

// String is the type's name in manifests.
func (t Type) String() string {
	for name, x := range typeNames {
		if x == t {
			return name
		}
	}
	return "type " + strconv.Itoa(int(t))
}

// Flags of a column.
const (
	HasValidity uint16 = 1
	AllNull     uint16 = 2
	Dictionary  uint16 = 4 // only if the manifest accepts it
	Truncated   uint16 = 8
	Constant    uint16 = 16 // only if the manifest accepts it
)

// Severities are the names of the numbers 1 to 5 of a hit; 0 takes the manifest's.
var Severities = [...]string{"", "informational", "low", "medium", "high", "critical"}

// Role is what a module is for.
type Role string

// The roles: hits of rules; rows that pass; columns of rows; one value of many rows.
const (
	RoleDetect    Role = "detect"
	RoleFilter    Role = "filter"
	RoleMap       Role = "map"
	RoleAggregate Role = "aggregate"
)
