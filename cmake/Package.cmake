# Debian packages, made by `cpack` in a build folder: qtf (the program), libqtf-dev (the library) and, where CMake
# found MPI, qtf-mpi.
set(CPACK_GENERATOR DEB)
set(CPACK_PACKAGE_CONTACT "The Q-TensorFormer authors")
set(CPACK_PACKAGING_INSTALL_PREFIX /usr)
set(CPACK_STRIP_FILES ON)
set(CPACK_OUTPUT_FILE_PREFIX packages)
set(CPACK_COMPONENTS_ALL program library)
if(MPI_CXX_FOUND)
  list(APPEND CPACK_COMPONENTS_ALL mpi)
endif()
set(CPACK_DEB_COMPONENT_INSTALL ON)
set(CPACK_DEBIAN_FILE_NAME DEB-DEFAULT)

set(CPACK_DEBIAN_PROGRAM_PACKAGE_NAME qtf)
set(CPACK_DEBIAN_PROGRAM_PACKAGE_SECTION science)
set(CPACK_DEBIAN_PROGRAM_PACKAGE_SHLIBDEPS ON)
set(CPACK_COMPONENT_PROGRAM_DESCRIPTION "small language models made of tensor trains
 Trains, compresses, evaluates, serves and explains decoder-only language
 models of 50 thousand to 50 million parameters, on CPUs.")

set(CPACK_DEBIAN_MPI_PACKAGE_NAME qtf-mpi)
set(CPACK_DEBIAN_MPI_PACKAGE_SECTION science)
set(CPACK_DEBIAN_MPI_PACKAGE_SHLIBDEPS ON)
set(CPACK_DEBIAN_MPI_PACKAGE_DEPENDS "qtf (= ${PROJECT_VERSION}), openmpi-bin")
set(CPACK_COMPONENT_MPI_DESCRIPTION "small language models made of tensor trains (several machines)
 What qtf loads when mpirun starts it, to train on several machines.")

# What a program that links to the library needs: the libraries of the build, without the one for command lines.
file(STRINGS scripts/install-packages rows REGEX "^build .*-dev ")
list(FILTER rows EXCLUDE REGEX "libcli11-dev")
list(TRANSFORM rows REPLACE "^build +([^ ]+).*" "\\1")
list(JOIN rows ", " needs)
set(CPACK_DEBIAN_LIBRARY_PACKAGE_NAME libqtf-dev)
set(CPACK_DEBIAN_LIBRARY_PACKAGE_SECTION libdevel)
set(CPACK_DEBIAN_LIBRARY_PACKAGE_DEPENDS "${needs}")
set(CPACK_COMPONENT_LIBRARY_DESCRIPTION "small language models made of tensor trains (C++ library)
 Static libraries, headers and what find_package(qtf) reads.")

include(GNUInstallDirs)
foreach(pair program:qtf library:libqtf-dev mpi:qtf-mpi)
  string(REPLACE ":" ";" pair ${pair})
  list(GET pair 0 component)
  list(GET pair 1 package)
  install(FILES LICENSE DESTINATION ${CMAKE_INSTALL_DATADIR}/doc/${package} RENAME copyright COMPONENT ${component})
endforeach()
include(CPack)
