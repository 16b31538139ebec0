// The one tag that every C++ exception is thrown with; clang expects the linker's other inputs to define it.
__asm__(".tagtype __cpp_exception i32\n"
        ".globl __cpp_exception\n"
        "__cpp_exception:\n");
