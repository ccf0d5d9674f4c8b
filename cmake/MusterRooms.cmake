# muster_library(NAME DEPS ...): a static library of all *.cc files of the current folder (not of
# its subfolders, which are rooms of their own). A folder that has no *.cc file becomes a
# header-only target.
function(muster_library name)
  cmake_parse_arguments(ARG "" "" "DEPS;PRIVATE_DEPS" ${ARGN})
  file(GLOB sources CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/*.cc)
  if(sources)
    add_library(${name} STATIC ${sources})
    target_link_libraries(${name} PUBLIC muster_options ${ARG_DEPS} PRIVATE ${ARG_PRIVATE_DEPS})
  else()
    add_library(${name} INTERFACE)
    target_link_libraries(${name} INTERFACE muster_options ${ARG_DEPS})
  endif()
endfunction()

# muster_test(NAME DEPS ... [LABEL unit]): one GoogleTest program of all *_test.cc files of the
# current folder, one ctest entry. Tests run from the source root, so golden files are found by
# their repository path.
function(muster_test name)
  cmake_parse_arguments(ARG "" "LABEL;TIMEOUT" "DEPS" ${ARGN})
  if(NOT ARG_LABEL)
    set(ARG_LABEL unit)
  endif()
  if(NOT ARG_TIMEOUT)
    set(ARG_TIMEOUT 120)
  endif()
  file(GLOB sources CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/*_test.cc)
  add_executable(${name} ${sources})
  target_link_libraries(${name} PRIVATE muster_options ${ARG_DEPS} GTest::gmock GTest::gtest_main)
  add_test(NAME ${name} COMMAND ${name} WORKING_DIRECTORY ${CMAKE_SOURCE_DIR})
  set_tests_properties(${name} PROPERTIES LABELS ${ARG_LABEL} TIMEOUT ${ARG_TIMEOUT})
endfunction()

# muster_fuzzer(NAME SOURCE DEPS ...): a libFuzzer program; clang with MUSTER_FUZZ only.
function(muster_fuzzer name source)
  if(NOT MUSTER_FUZZ)
    return()
  endif()
  cmake_parse_arguments(ARG "" "" "DEPS" ${ARGN})
  add_executable(${name} ${source})
  target_link_libraries(${name} PRIVATE muster_options ${ARG_DEPS})
  target_link_options(${name} PRIVATE -fsanitize=fuzzer)
endfunction()

# muster_subrooms(): adds every subfolder that has a CMakeLists.txt, in the order of their names.
macro(muster_subrooms)
  file(GLOB subrooms RELATIVE ${CMAKE_CURRENT_SOURCE_DIR} CONFIGURE_DEPENDS
       ${CMAKE_CURRENT_SOURCE_DIR}/*/CMakeLists.txt)
  foreach(subroom IN LISTS subrooms)
    get_filename_component(subroom ${subroom} DIRECTORY)
    add_subdirectory(${subroom})
  endforeach()
endmacro()
