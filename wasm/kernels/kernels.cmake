# How the kernels of this folder take the place of ggml's.
set_source_files_properties("${LLAMA_CPP_DIR}/ggml/src/ggml-cpu/arch/wasm/quants.c" TARGET_DIRECTORY ggml-cpu
  PROPERTIES COMPILE_OPTIONS "-include;${CMAKE_CURRENT_LIST_DIR}/rounding.h")
# Packed weights and their kernels are ours: repack.cpp stands in for ggml's file of that name.
file(GLOB KERNEL_SOURCES CONFIGURE_DEPENDS "${CMAKE_CURRENT_LIST_DIR}/*.cpp")
get_target_property(GGML_CPU_SOURCES ggml-cpu SOURCES)
if(NOT "ggml-cpu/repack.cpp" IN_LIST GGML_CPU_SOURCES)
  message(FATAL_ERROR "ggml-cpu has no repack.cpp any more: see wasm/kernels/repack.cpp")
endif()
list(REMOVE_ITEM GGML_CPU_SOURCES ggml-cpu/repack.cpp)
set_target_properties(ggml-cpu PROPERTIES SOURCES "${GGML_CPU_SOURCES}")
target_sources(ggml-cpu PRIVATE ${KERNEL_SOURCES})
set_source_files_properties(${KERNEL_SOURCES} TARGET_DIRECTORY ggml-cpu PROPERTIES COMPILE_OPTIONS "-Werror;-Wno-unused-function;-Wno-zero-length-array")
# So are these functions of vec.cpp: its own get other names. A name that is no longer there is an error.
set(VEC_CPP "${LLAMA_CPP_DIR}/ggml/src/ggml-cpu/vec.cpp")
file(READ "${VEC_CPP}" VEC_CPP_TEXT)
foreach(function ggml_vec_silu_f32 ggml_vec_swiglu_f32 ggml_vec_soft_max_f32 ggml_vec_dot_f16)
  if(NOT VEC_CPP_TEXT MATCHES "\n(void|ggml_float) ${function}\\(")
    message(FATAL_ERROR "vec.cpp has no ${function} any more: see wasm/kernels/vectors.cpp")
  endif()
  list(APPEND VEC_CPP_NAMES "${function}=${function}_of_ggml")
endforeach()
set_source_files_properties("${VEC_CPP}" TARGET_DIRECTORY ggml-cpu PROPERTIES COMPILE_DEFINITIONS "${VEC_CPP_NAMES}")
# These multiply bytes by a relaxed instruction, within what is exact on every CPU.
set_property(SOURCE "${CMAKE_CURRENT_LIST_DIR}/blocks32.cpp" "${CMAKE_CURRENT_LIST_DIR}/blocks256.cpp"
  "${CMAKE_CURRENT_LIST_DIR}/signs.cpp" TARGET_DIRECTORY ggml-cpu
  APPEND PROPERTY COMPILE_OPTIONS "${LB_RELAXED_CPU}")
