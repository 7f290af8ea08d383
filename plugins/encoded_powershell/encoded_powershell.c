// PowerShell started with an encoded command: -EncodedCommand or a short form of it, followed by base64.
//
// Build, from this folder:
//	python3 -m ziglang cc --target=wasm32-freestanding -O3 -msimd128 -Wall -Wextra -I../../sdk/c -nostdlib -Wl,--no-entry -Wl,--strip-all -Wl,-z,stack-size=16384 -o encoded_powershell.wasm encoded_powershell.c
#include "tocsin.h"

TOCSIN_MANIFEST("manifest.json")
TOCSIN_NO_CONFIG

static int is_base64(uint8_t c) {
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '+' || c == '/' || c == '=';
}

// encoded says whether a parameter that abbreviates -encodedcommand, then blanks and a run of base64, begins at i.
static int encoded(tocsin_str s, uint32_t i) {
	static const char name[] = "encodedcommand";
	uint32_t n = 0;
	for (i++; n < sizeof name - 1 && i < s.len && tocsin_lower(s.at[i]) == (uint8_t)name[n]; n++) i++;
	if (n == 1 && i < s.len && tocsin_lower(s.at[i]) == 'c') n++, i++; // -ec
	uint32_t blanks = 0, letters = 0;
	for (; i < s.len && (s.at[i] == ' ' || s.at[i] == '\t' || s.at[i] == '"' || s.at[i] == '\''); i++) blanks++;
	for (; i < s.len && is_base64(s.at[i]); i++) letters++;
	return n > 0 && blanks > 0 && letters >= 16;
}

TOCSIN_DETECT(batch) {
	tocsin_text command = tocsin_text_column(batch, 0), image = tocsin_text_column(batch, 1);
	for (uint32_t row = 0; row < batch->rows; row++) {
		tocsin_str s = tocsin_text_at(command, row), exe = tocsin_text_at(image, row);
		int shell = tocsin_contains_nocase(s, "powershell") || tocsin_contains_nocase(s, "pwsh") ||
			tocsin_ends_nocase(exe, "powershell.exe") || tocsin_ends_nocase(exe, "pwsh.exe");
		tocsin_str needle = tocsin_literal("-e");
		for (uint32_t i = 0; shell && (i = tocsin_find(s, needle, i, 1)) < s.len; i++) {
			if (!encoded(s, i)) continue;
			TOCSIN_HIT(batch, row, 1, 0);
			break;
		}
	}
	return TOCSIN_OK;
}
