"""How does a wheel behave? Installed into a fresh environment, and used there by a child process that is watched."""
