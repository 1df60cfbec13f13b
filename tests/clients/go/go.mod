module refloat.test/scenario

go 1.24

require github.com/qovery/qovery-client-go v0.0.0-20250901094937-4a332978516f
