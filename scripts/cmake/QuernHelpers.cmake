# One function per kind of target, so that every folder's CMakeLists.txt is one line.
#
# Three kinds of code live in this tree, told apart by what they may include:
#   quern_library(... )          the compiler: LLVM and MLIR, no exceptions
#   quern_plain_library(...)     MLIR-free parts of the compiler: LLVM's Support, no MLIR
#   quern_runtime_library(...)   what emitted programs link: the standard library alone

separate_arguments(QUERN_LLVM_DEFINITIONS NATIVE_COMMAND "${LLVM_DEFINITIONS}")

add_library(quern_flags INTERFACE)
target_compile_options(quern_flags INTERFACE -Wall -Wextra -Wno-unused-parameter -fno-fast-math -ffp-contract=off)
target_include_directories(quern_flags INTERFACE ${PROJECT_SOURCE_DIR}/include ${PROJECT_BINARY_DIR}/include)
if(QUERN_SANITIZE)
  target_compile_options(quern_flags INTERFACE -fsanitize=address,undefined -fno-omit-frame-pointer
                         -fno-sanitize-recover=undefined -fno-sanitize=vptr)
  target_link_options(quern_flags INTERFACE -fsanitize=address,undefined)
endif()
if(QUERN_COVERAGE)
  target_compile_options(quern_flags INTERFACE -fprofile-instr-generate -fcoverage-mapping)
  target_link_options(quern_flags INTERFACE -fprofile-instr-generate)
endif()
# Feedback for the fuzz targets, which read files: only the MLIR-free parts need it. Comparisons are
# not traced: inputs are decisions, among whose bytes what is compared does not occur, and it takes
# half of the time.
add_library(quern_feedback INTERFACE)
if(QUERN_FUZZ)
  target_compile_options(quern_feedback INTERFACE -fsanitize=fuzzer-no-link -fno-sanitize-coverage=trace-cmp)
endif()

add_library(quern_llvm_flags INTERFACE)
target_link_libraries(quern_llvm_flags INTERFACE quern_flags)
target_include_directories(quern_llvm_flags SYSTEM INTERFACE ${LLVM_INCLUDE_DIRS} ${MLIR_INCLUDE_DIRS} ${LLD_INCLUDE_DIRS})
target_compile_definitions(quern_llvm_flags INTERFACE ${QUERN_LLVM_DEFINITIONS})
target_compile_options(quern_llvm_flags INTERFACE $<$<COMPILE_LANGUAGE:CXX>:-fno-exceptions>)

# Precompiled MLIR headers: a pass compiles in under a second instead of five.
add_library(quern_pch OBJECT ${PROJECT_SOURCE_DIR}/scripts/cmake/Precompiled.cpp)
target_link_libraries(quern_pch PRIVATE quern_llvm_flags)
# Without timestamps, so that ccache can compare it.
target_compile_options(quern_llvm_flags INTERFACE "SHELL:-Xclang -fno-pch-timestamp")
target_precompile_headers(quern_pch PRIVATE ${PROJECT_SOURCE_DIR}/scripts/cmake/Precompiled.h)

function(_quern_sources out)
  file(GLOB found CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/*.cpp)
  set(${out} ${found} PARENT_SCOPE)
endfunction()

# quern_library(NAME [DEPENDS generated...] [LINK libs...]): every .cpp of the folder, with MLIR.
function(quern_library name)
  cmake_parse_arguments(ARG "" "" "DEPENDS;LINK" ${ARGN})
  _quern_sources(sources)
  if(NOT sources)
    add_library(${name} INTERFACE)
    target_link_libraries(${name} INTERFACE quern_llvm_flags ${ARG_LINK})
    return()
  endif()
  add_library(${name} STATIC ${sources})
  target_link_libraries(${name} PUBLIC quern_llvm_flags ${ARG_LINK})
  target_precompile_headers(${name} REUSE_FROM quern_pch)
  add_dependencies(${name} quern_tablegen ${ARG_DEPENDS})
endfunction()

# quern_plain_library(NAME [LINK libs...]): every .cpp of the folder, LLVM's Support but no MLIR.
function(quern_plain_library name)
  cmake_parse_arguments(ARG "" "" "LINK" ${ARGN})
  _quern_sources(sources)
  if(NOT sources)
    add_library(${name} INTERFACE)
    target_link_libraries(${name} INTERFACE quern_llvm_flags ${ARG_LINK})
    return()
  endif()
  add_library(${name} STATIC ${sources})
  target_link_libraries(${name} PUBLIC quern_llvm_flags ${ARG_LINK} LLVM PRIVATE quern_feedback)
endfunction()

# quern_runtime_library(NAME [LINK libs...]): linked into emitted programs; no LLVM at all.
function(quern_runtime_library name)
  cmake_parse_arguments(ARG "" "" "LINK" ${ARGN})
  _quern_sources(sources)
  if(NOT sources)
    add_library(${name} INTERFACE)
    target_link_libraries(${name} INTERFACE quern_flags ${ARG_LINK})
    return()
  endif()
  add_library(${name} STATIC ${sources})
  target_link_libraries(${name} PUBLIC quern_flags ${ARG_LINK} PRIVATE quern_feedback)
endfunction()

# quern_tool(NAME LINK libs...): an executable of every .cpp of the folder.
function(quern_tool name)
  cmake_parse_arguments(ARG "" "" "LINK" ${ARGN})
  _quern_sources(sources)
  if(NOT sources)
    return()
  endif()
  add_executable(${name} ${sources})
  # As the libraries are compiled, or the precompiled header does not fit.
  set_target_properties(${name} PROPERTIES POSITION_INDEPENDENT_CODE OFF)
  target_compile_options(${name} PRIVATE -fPIC)
  target_link_libraries(${name} PRIVATE quern_llvm_flags ${ARG_LINK} MLIR LLVM)
  target_precompile_headers(${name} REUSE_FROM quern_pch)
  add_dependencies(${name} quern_tablegen)
endfunction()
