// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"debug/elf"
	"debug/macho"
	"debug/pe"
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"
)

// checkHeaders checks that a program is for the platform, and only needs libraries that every
// such system has.
func checkHeaders(system, arch string, program []byte) error {
	check, ok := map[string]func(string, []byte) ([]string, error){"linux": checkELF, "darwin": checkMachO, "windows": checkPE}[system]
	if !ok {
		return fmt.Errorf("nothing is known of %s", system)
	}
	needs, err := check(arch, program)
	if err != nil {
		return fmt.Errorf("program for %s: %w", system, err)
	}
	// Libraries that Go programs without cgo are linked to.
	has := map[string][]string{
		"darwin": {
			"/usr/lib/libSystem.B.dylib", "/usr/lib/libresolv.9.dylib",
			"/System/Library/Frameworks/CoreFoundation.framework/Versions/A/CoreFoundation",
			"/System/Library/Frameworks/Security.framework/Versions/A/Security",
		},
		"windows": {"kernel32.dll"},
	}[system]
	for _, library := range needs {
		if !slices.Contains(has, library) {
			return fmt.Errorf("it needs %s", library)
		}
	}
	return nil
}

func checkELF(arch string, program []byte) (needs []string, err error) {
	f, err := elf.NewFile(bytes.NewReader(program))
	if err != nil {
		return nil, err
	}
	if want := map[string]elf.Machine{"amd64": elf.EM_X86_64, "arm64": elf.EM_AARCH64}[arch]; f.Machine != want {
		return nil, fmt.Errorf("it is for %s, not %s", f.Machine, want)
	}
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP {
			return nil, errors.New("it is not static")
		}
	}
	return nil, nil
}

func checkMachO(arch string, program []byte) (needs []string, err error) {
	f, err := macho.NewFile(bytes.NewReader(program))
	if err != nil {
		return nil, err
	}
	if want := map[string]macho.Cpu{"amd64": macho.CpuAmd64, "arm64": macho.CpuArm64}[arch]; f.Cpu != want {
		return nil, fmt.Errorf("it is for %s, not %s", f.Cpu, want)
	}
	if f.Type != macho.TypeExec || f.Flags&macho.FlagPIE == 0 {
		return nil, fmt.Errorf("it is of type %s, with flags %#x", f.Type, f.Flags)
	}
	// The kernel of macOS on arm64 kills programs without one.
	const codeSignature = 0x1d
	if arch == "arm64" && !slices.ContainsFunc(f.Loads, func(l macho.Load) bool { return f.ByteOrder.Uint32(l.Raw()) == codeSignature }) {
		return nil, errors.New("it has no signature")
	}
	return f.ImportedLibraries()
}

func checkPE(arch string, program []byte) (needs []string, err error) {
	f, err := pe.NewFile(bytes.NewReader(program))
	if err != nil {
		return nil, err
	}
	if want := map[string]uint16{"amd64": pe.IMAGE_FILE_MACHINE_AMD64, "arm64": pe.IMAGE_FILE_MACHINE_ARM64}[arch]; f.Machine != want {
		return nil, fmt.Errorf("it is for machine %#x, not %#x", f.Machine, want)
	}
	h, ok := f.OptionalHeader.(*pe.OptionalHeader64)
	if !ok || f.Characteristics&pe.IMAGE_FILE_EXECUTABLE_IMAGE == 0 {
		return nil, errors.New("it is not a 64-bit program")
	}
	if h.Subsystem != pe.IMAGE_SUBSYSTEM_WINDOWS_CUI {
		return nil, fmt.Errorf("its subsystem is %d, not the console", h.Subsystem)
	}
	// NAME:DLL. ImportedLibraries returns nothing on this platform.
	symbols, err := f.ImportedSymbols()
	if err != nil || len(symbols) == 0 {
		return nil, errors.Join(errors.New("it imports nothing"), err)
	}
	for _, s := range symbols {
		_, library, _ := strings.Cut(s, ":")
		needs = append(needs, strings.ToLower(library))
	}
	return needs, nil
}

// A program is for its platform and no other. (Programs of a release are checked if there is
// one.)
func TestCheckHeaders(t *testing.T) {
	file, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	self, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	other := map[string]string{"amd64": "arm64", "arm64": "amd64"}[runtime.GOARCH]
	if err := checkHeaders(runtime.GOOS, other, self); err == nil || !strings.Contains(err.Error(), "it is for ") {
		t.Errorf("as one for %s: %v", other, err)
	}
	for _, system := range []string{"linux", "darwin", "windows", "plan9"} {
		if system == runtime.GOOS {
			continue
		}
		if err := checkHeaders(system, runtime.GOARCH, self); err == nil {
			t.Errorf("it passes as a program for %s", system)
		}
	}
}
