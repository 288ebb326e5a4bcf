# What `qtf train` loads under mpirun: bin/qtf finds it in lib/qtf/. Left out, with a word, where there is no MPI.
#   qtf_mpi_module(source)
find_package(MPI COMPONENTS CXX QUIET)

function(qtf_mpi_module source)
  if(NOT MPI_CXX_FOUND)
    message(STATUS "No MPI: qtf will train on one machine only (docs/distributed.md)")
    return()
  endif()
  add_library(qtf_mpi MODULE ${CMAKE_SOURCE_DIR}/${source})
  target_link_libraries(qtf_mpi PRIVATE qtf_options MPI::MPI_CXX nlohmann_json::nlohmann_json)
  set_target_properties(qtf_mpi PROPERTIES LIBRARY_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/lib/qtf UNITY_BUILD OFF
    CXX_VISIBILITY_PRESET default)
  install(TARGETS qtf_mpi LIBRARY DESTINATION lib/qtf COMPONENT mpi)
endfunction()
