// A probe in Go: the number of goroutines. The host calls exported functions through plugin.c.
//
// Build it next to a copy of conductor_plugin.h; the version script hides cgo's other exports: go build
// -buildmode=c-shared -ldflags '-extldflags=-Wl,--version-script=exports.map' -o gopher.so .
package main

// #include <stdlib.h>
// #include "conductor_plugin.h"
// static void report(void *call, char *text) { conductor_report((const conductor_call_t *)call, 0, text); }
import "C"

import (
	"fmt"
	"runtime"
	"unsafe"
)

//export goCreate
func goCreate() unsafe.Pointer { return C.malloc(1) }

//export goCheck
func goCheck(call unsafe.Pointer) {
	text := C.CString(fmt.Sprintf("%d goroutines", runtime.NumGoroutine()))
	C.report(call, text)
	C.free(unsafe.Pointer(text))
}

//export goDestroy
func goDestroy(probe unsafe.Pointer) { C.free(probe) }

func main() {}
