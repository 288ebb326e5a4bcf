# The layers as a library for other projects: targets qtf::<layer>, the headers that docs/library.md lists, and
# what find_package(qtf) reads.
#   qtf_install_library(layer…)
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)

# The headers in a layer's row of the table in docs/library.md, which is the only list of them.
function(qtf_public_headers layer result)
  set(page ${CMAKE_SOURCE_DIR}/docs/library.md)
  set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${page})
  file(STRINGS ${page} row REGEX "^\\| `qtf::${layer}` \\|")
  if(NOT row)
    message(FATAL_ERROR "docs/library.md has no row for qtf::${layer}")
  endif()
  string(REGEX MATCHALL "[a-z0-9_]+\\.h" headers "${row}")
  list(TRANSFORM headers PREPEND ${CMAKE_SOURCE_DIR}/src/qtf/${layer}/)
  set(${result} ${headers} PARENT_SCOPE)
endfunction()

function(qtf_install_library)
  set(place ${CMAKE_INSTALL_LIBDIR}/cmake/qtf)
  foreach(layer IN LISTS ARGN)
    set_target_properties(qtf_${layer} PROPERTIES EXPORT_NAME ${layer})
    target_compile_features(qtf_${layer} PUBLIC cxx_std_20)
    target_include_directories(qtf_${layer} INTERFACE $<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}>)
    install(TARGETS qtf_${layer} EXPORT qtfTargets ARCHIVE COMPONENT library)
    qtf_public_headers(${layer} headers)
    install(FILES ${headers} DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/qtf/${layer} COMPONENT library)
  endforeach()
  install(EXPORT qtfTargets NAMESPACE qtf:: DESTINATION ${place} COMPONENT library)

  configure_package_config_file(cmake/qtfConfig.cmake.in ${CMAKE_BINARY_DIR}/generated/qtfConfig.cmake
    INSTALL_DESTINATION ${place} NO_SET_AND_CHECK_MACRO)
  # Before 1.0 a minor version may change anything.
  write_basic_package_version_file(${CMAKE_BINARY_DIR}/generated/qtfConfigVersion.cmake
    COMPATIBILITY SameMinorVersion)
  install(FILES ${CMAKE_BINARY_DIR}/generated/qtfConfig.cmake ${CMAKE_BINARY_DIR}/generated/qtfConfigVersion.cmake
    DESTINATION ${place} COMPONENT library)
endfunction()
