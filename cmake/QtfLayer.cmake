# One library, one test binary and the benchmarks of a folder under src/qtf, from file suffixes:
#   x.cc  library     x.test.cc  test     x.bench.cc  benchmark     x.fuzz.cc  fuzz target
# A new file needs no edit here.
#
# The presets compile several files of a folder at a time (CMAKE_UNITY_BUILD: a quarter of the build's time less),
# so helpers in anonymous namespaces have names of their own within a folder, or in its tests. A folder whose
# files repeat names on purpose, or are compiled once an instruction set, says SEPARATE;
# SEPARATE_TESTS does so for its tests. A folder that only arranges what others compute says ARRANGES and is
# compiled with -O1, in two thirds of the time.

add_library(qtf_options INTERFACE)
target_include_directories(qtf_options INTERFACE ${CMAKE_SOURCE_DIR}/src)
target_compile_options(qtf_options INTERFACE -Wall -Wextra -Wpedantic -Wshadow -Wno-ignored-attributes)
# GCC 12 reports overlaps inside std::string that cannot happen (its bug 105651).
target_compile_options(qtf_options INTERFACE $<$<CXX_COMPILER_ID:GNU>:-Wno-restrict>)
# Nor does it matter in files compiled together that a lambda of one holds a type of its anonymous namespace.
target_compile_options(qtf_options INTERFACE $<$<CXX_COMPILER_ID:GNU>:-Wno-subobject-linkage>)
if(QTF_WERROR)
  target_compile_options(qtf_options INTERFACE -Werror)
endif()

if(QTF_BUILD_TESTS)
  enable_testing()
  find_package(GTest REQUIRED)
  include(GoogleTest)
  # What is tested is compiled for speed, the tests themselves for a short build.
  add_library(qtf_test_options INTERFACE)
  target_link_libraries(qtf_test_options INTERFACE qtf_options GTest::gtest_main)
  target_compile_options(qtf_test_options INTERFACE $<$<CONFIG:Release>:-O1>)
endif()
if(QTF_BUILD_BENCHMARKS)
  find_package(benchmark REQUIRED)
endif()

if(QTF_BUILD_FUZZERS)
  add_custom_target(fuzzers)  # all of them; scripts/fuzz runs them
endif()

# What most files include, precompiled once for all folders that are compiled alike. Only where files are joined: the
# other builds show which file forgot an include.
set(QTF_COMMON_HEADERS "")
if(CMAKE_UNITY_BUILD)
  set(QTF_COMMON_HEADERS <algorithm> <array> <atomic> <chrono> <cmath> <filesystem> <functional> <map> <memory> <mutex>
    <optional> <span> <string> <thread> <unordered_map> <variant> <vector> <fmt/format.h>
    ${CMAKE_SOURCE_DIR}/src/qtf/base/json.h)
endif()

# `kind` names what is compiled alike; its first target holds the precompiled headers.
function(qtf_precompile target kind)
  get_property(holder GLOBAL PROPERTY qtf_precompiled_${kind})
  if(holder)
    target_precompile_headers(${target} REUSE_FROM ${holder})
  elseif(ARGN)
    target_precompile_headers(${target} PRIVATE ${ARGN})
    set_property(GLOBAL PROPERTY qtf_precompiled_${kind} ${target})
  endif()
endfunction()

function(qtf_layer name)
  cmake_parse_arguments(ARG "SEPARATE;SEPARATE_TESTS;ARRANGES" "" "DEPS;LIBS" ${ARGN})
  set(dir ${CMAKE_SOURCE_DIR}/src/qtf/${name})
  file(GLOB sources CONFIGURE_DEPENDS ${dir}/*.cc)
  file(GLOB tests CONFIGURE_DEPENDS ${dir}/*.test.cc)
  file(GLOB benches CONFIGURE_DEPENDS ${dir}/*.bench.cc)
  file(GLOB fuzzers CONFIGURE_DEPENDS ${dir}/*.fuzz.cc)
  list(REMOVE_ITEM sources ${tests} ${benches} ${fuzzers} ${dir}/main.cc)

  list(TRANSFORM ARG_DEPS PREPEND qtf_)
  if(sources)
    add_library(qtf_${name} STATIC ${sources})
    target_link_libraries(qtf_${name} PUBLIC ${ARG_DEPS} ${ARG_LIBS} PRIVATE $<BUILD_INTERFACE:qtf_options>)
    target_include_directories(qtf_${name} PUBLIC $<BUILD_INTERFACE:${CMAKE_SOURCE_DIR}/src>)
    if(ARG_SEPARATE)
      set_target_properties(qtf_${name} PROPERTIES UNITY_BUILD OFF)
    endif()
    if(ARG_ARRANGES)
      target_compile_options(qtf_${name} PRIVATE $<$<CONFIG:Release>:-O1>)
      qtf_precompile(qtf_${name} arranging ${QTF_COMMON_HEADERS})
    else()
      qtf_precompile(qtf_${name} computing ${QTF_COMMON_HEADERS})
    endif()
  else()
    add_library(qtf_${name} INTERFACE)
    target_link_libraries(qtf_${name} INTERFACE ${ARG_DEPS} ${ARG_LIBS})
  endif()

  if(QTF_BUILD_TESTS AND tests)
    add_executable(${name}_test ${tests})
    target_link_libraries(${name}_test PRIVATE qtf_${name} qtf_test_options)
    if(ARG_SEPARATE OR ARG_SEPARATE_TESTS)
      set_target_properties(${name}_test PROPERTIES UNITY_BUILD OFF)
    endif()
    qtf_precompile(${name}_test tests <gtest/gtest.h> ${QTF_COMMON_HEADERS})
    target_compile_definitions(${name}_test PRIVATE
      QTF_SOURCE_DIR="${CMAKE_SOURCE_DIR}" QTF_SHARED_DIR="${CMAKE_SOURCE_DIR}/../shared")
    gtest_discover_tests(${name}_test TEST_PREFIX ${name}/ DISCOVERY_TIMEOUT 60 PROPERTIES TIMEOUT 600)
  endif()
  if(QTF_BUILD_BENCHMARKS)
    foreach(bench ${benches})
      get_filename_component(stem ${bench} NAME_WE)
      add_executable(${name}_${stem}_bench ${bench})
      target_link_libraries(${name}_${stem}_bench PRIVATE qtf_${name} qtf_options benchmark::benchmark_main)
    endforeach()
  endif()
  if(QTF_BUILD_FUZZERS)
    foreach(fuzzer ${fuzzers})
      get_filename_component(stem ${fuzzer} NAME_WE)
      add_executable(${name}_${stem}_fuzz ${fuzzer})
      target_link_libraries(${name}_${stem}_fuzz PRIVATE qtf_${name} qtf_options)
      target_link_options(${name}_${stem}_fuzz PRIVATE -fsanitize=fuzzer)
      add_dependencies(fuzzers ${name}_${stem}_fuzz)
    endforeach()
  endif()
endfunction()

# A program from one file; those under src/ are installed, others are built with the tests or when named.
function(qtf_program name main)
  cmake_parse_arguments(ARG "" "" "DEPS;LIBS" ${ARGN})
  list(TRANSFORM ARG_DEPS PREPEND qtf_)
  add_executable(${name} ${CMAKE_SOURCE_DIR}/${main})
  set_target_properties(${name} PROPERTIES UNITY_BUILD OFF)
  target_link_libraries(${name} PRIVATE ${ARG_DEPS} ${ARG_LIBS} qtf_options)
  if(main MATCHES "^src/")
    install(TARGETS ${name} RUNTIME COMPONENT program)
  elseif(NOT QTF_BUILD_TESTS)
    set_target_properties(${name} PROPERTIES EXCLUDE_FROM_ALL ON)  # built when named
  endif()
endfunction()
