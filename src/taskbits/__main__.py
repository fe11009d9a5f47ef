from taskbits.cli import main

main()
