// Options for tests under AddressSanitizer (`swift test --sanitize=address`), which asks the program for this symbol.
//
// The compiler inside an OpenCL driver gives a thread that it runs on a signal stack of its own; the sanitizer would take
// that for its own when the thread ends, and fail to free it. What drivers keep for the life of a process is no leak of ours.
__attribute__((visibility("default"), used)) const char *__asan_default_options(void) {
    return "use_sigaltstack=0:detect_leaks=0";
}
