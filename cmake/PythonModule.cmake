# The Python package qtf (docs/python.md), in the build folder's python/: the extension module of src/qtf/python
# and the files around it, for Debian's own Python and no other that may come first on the PATH.
#   qtf_python_module(layer…)      what the module links to; only where QTF_PYTHON_FOUND
set(QTF_PYTHON_DIR lib/python3/dist-packages CACHE STRING "Where the package is installed, below the prefix")
set(QTF_PYTHON_FOUND FALSE)
if(QTF_BUILD_PYTHON AND NOT CMAKE_CXX_FLAGS MATCHES "sanitize")
  set(Python_EXECUTABLE /usr/bin/python3)
  find_package(Python COMPONENTS Interpreter Development.Module)
  find_package(pybind11 2.10)
  if(Python_FOUND AND pybind11_FOUND)
    set(QTF_PYTHON_FOUND TRUE)
  else()
    message(STATUS "The Python module is left out: it needs python3-dev and pybind11-dev")
  endif()
endif()

function(qtf_python_module)
  set(sources ${CMAKE_SOURCE_DIR}/src/qtf/python)
  file(GLOB code CONFIGURE_DEPENDS ${sources}/*.cc)
  file(GLOB package CONFIGURE_DEPENDS ${sources}/qtf/*.py ${sources}/qtf/*.pyi ${sources}/qtf/py.typed)

  pybind11_add_module(qtf_python MODULE NO_EXTRAS ${code})
  list(TRANSFORM ARGN PREPEND qtf_)
  target_link_libraries(qtf_python PRIVATE ${ARGN} qtf_options)
  target_compile_options(qtf_python PRIVATE $<$<CONFIG:Release>:-O1>)
  target_compile_definitions(qtf_python PRIVATE QTF_VERSION="${PROJECT_VERSION}")
  set_target_properties(qtf_python PROPERTIES OUTPUT_NAME _qtf
    LIBRARY_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/python/qtf)
  foreach(file ${package})
    get_filename_component(name ${file} NAME)
    configure_file(${file} ${CMAKE_BINARY_DIR}/python/qtf/${name} COPYONLY)
  endforeach()

  install(TARGETS qtf_python LIBRARY DESTINATION ${QTF_PYTHON_DIR}/qtf COMPONENT python)
  install(FILES ${package} DESTINATION ${QTF_PYTHON_DIR}/qtf COMPONENT python)
endfunction()
