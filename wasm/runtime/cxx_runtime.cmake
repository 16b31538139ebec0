# What both modules start with: the settings that every target has, and the C++ runtime.
foreach(variable LLAMA_CPP_DIR ZIG_LIB_DIR)
  if(NOT IS_DIRECTORY "${${variable}}")
    message(FATAL_ERROR "${variable} must name a directory; run build.py rather than cmake")
  endif()
endforeach()

# `zig ar` is two words, which CMAKE_AR cannot be.
foreach(language C CXX)
  set(CMAKE_${language}_ARCHIVE_CREATE "\"${ZIG}\" ar qc <TARGET> <OBJECTS>")
  set(CMAKE_${language}_ARCHIVE_FINISH "\"${ZIG}\" ranlib <TARGET>")
endforeach()

set(CMAKE_C_STANDARD 11)
set(CMAKE_CXX_STANDARD 17)
set(CMAKE_CXX_STANDARD_REQUIRED ON)

# zig's own libc++ for WASI is compiled without exceptions and threads: in it a failed `new` aborts.
# The same sources, compiled here with exceptions, turn that into std::bad_alloc, which the shim catches.
set(LIBCXX "${ZIG_LIB_DIR}/libcxx")
set(LIBCXXABI "${ZIG_LIB_DIR}/libcxxabi")
set(LIBUNWIND "${ZIG_LIB_DIR}/libunwind")

file(GLOB LIBCXX_SOURCES "${LIBCXX}/src/*.cpp" "${LIBCXX}/src/filesystem/*.cpp" "${LIBCXX}/src/ryu/*.cpp")
list(FILTER LIBCXX_SOURCES EXCLUDE REGEX "/(print|strstream)\\.cpp$")
file(GLOB LIBCXXABI_SOURCES "${LIBCXXABI}/src/*.cpp")
# cxa_noexception is the no-exceptions stand-in for cxa_exception.
list(FILTER LIBCXXABI_SOURCES EXCLUDE REGEX "/(cxa_noexception|cxa_thread_atexit)\\.cpp$")

add_library(cxx_runtime STATIC
  ${LIBCXX_SOURCES} ${LIBCXXABI_SOURCES}
  "${LIBUNWIND}/src/Unwind-wasm.c"
  "${CMAKE_CURRENT_LIST_DIR}/exception_tag.c")
target_include_directories(cxx_runtime PRIVATE
  "${LIBCXX}/src" "${LIBCXX}/src/include" "${LIBCXX}/libc" "${LIBCXXABI}/include" "${LIBCXXABI}/src" "${LIBUNWIND}/include")
target_compile_definitions(cxx_runtime PRIVATE
  _LIBCPP_BUILDING_LIBRARY _LIBCXXABI_BUILDING_LIBRARY LIBCXX_BUILDING_LIBCXXABI
  _LIBUNWIND_DISABLE_VISIBILITY_ANNOTATIONS
  LIBCXXABI_NON_DEMANGLING_TERMINATE)
target_compile_options(cxx_runtime PRIVATE -fdeclspec "$<$<COMPILE_LANGUAGE:CXX>:-std=c++23;-faligned-allocation>" -w)
set_source_files_properties("${LIBCXX}/src/filesystem/operations.cpp" PROPERTIES
  COMPILE_OPTIONS "-U_LIBCPP_HAS_MUSL_LIBC;-D_LIBCPP_HAS_MUSL_LIBC=0")
target_compile_options(cxx_runtime PRIVATE -Os)
