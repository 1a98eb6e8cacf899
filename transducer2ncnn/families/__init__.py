"""Model families: what each is (``contract``), where they are found (``registry``), what their
networks share (``modules``), and a package for each."""
