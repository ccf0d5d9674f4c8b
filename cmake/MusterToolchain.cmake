# Compiler settings shared by every target: C++20, warnings are errors, ccache when present.
set(CMAKE_CXX_STANDARD 20)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)
set(CMAKE_RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/bin)

if(NOT CMAKE_BUILD_TYPE)
  set(CMAKE_BUILD_TYPE Release)
endif()
# Checks stay on in release: MUSTER_CHECK does not depend on NDEBUG, and neither should assert().
set(CMAKE_CXX_FLAGS_RELEASE "-O2 -g1")
set(CMAKE_CXX_FLAGS_DEBUG "-O0 -g")

find_program(MUSTER_CCACHE ccache)
if(MUSTER_CCACHE)
  # Paths count from the checkout, so that the same objects serve every clone.
  set(CMAKE_CXX_COMPILER_LAUNCHER env CCACHE_BASEDIR=${CMAKE_SOURCE_DIR} CCACHE_NOHASHDIR=1
      ${MUSTER_CCACHE})
endif()

add_library(muster_options INTERFACE)
target_compile_options(muster_options INTERFACE
  -Wall -Wextra -Werror -Wswitch -Wnon-virtual-dtor -Woverloaded-virtual -Wno-missing-field-initializers)
target_include_directories(muster_options INTERFACE ${CMAKE_SOURCE_DIR})
target_compile_definitions(muster_options INTERFACE MUSTER_VERSION="${PROJECT_VERSION}")
if(MUSTER_SANITIZE)
  add_compile_options(-fsanitize=${MUSTER_SANITIZE} -fno-omit-frame-pointer -g)
  add_link_options(-fsanitize=${MUSTER_SANITIZE})
endif()
if(MUSTER_FUZZ)
  # Coverage feedback in every library a fuzzer links; without it libFuzzer finds nothing.
  add_compile_options(-fsanitize=fuzzer-no-link -O1)
endif()
find_package(Threads REQUIRED)
target_link_libraries(muster_options INTERFACE Threads::Threads)
