# The man page and the completion, which the program makes from its command table, and the licence.
#   qtf_install_pages(program)
function(qtf_install_pages program)
  set(folder ${CMAKE_BINARY_DIR}/share)
  file(MAKE_DIRECTORY ${folder})
  add_custom_command(TARGET ${program} POST_BUILD
    COMMAND ${program} docs man > ${folder}/qtf.1
    COMMAND ${program} docs completion > ${folder}/qtf.bash)
  install(FILES ${folder}/qtf.1 DESTINATION ${CMAKE_INSTALL_MANDIR}/man1 COMPONENT program)
  install(FILES ${folder}/qtf.bash DESTINATION ${CMAKE_INSTALL_DATADIR}/bash-completion/completions RENAME qtf
    COMPONENT program)
endfunction()
