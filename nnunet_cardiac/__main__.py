from nnunet_cardiac.cli import main

if __name__ == "__main__":
    main()
