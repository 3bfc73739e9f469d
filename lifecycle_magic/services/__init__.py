"""A class as it runs in a session: its versions, images, containers and addresses.

`service` decides what a re-run changes. `version`, `images` with `builder`, `launcher` with
`spare`, and `serving` make it; `bundle` is what travels, `why` and `buildlog` tell of builds, and
`home` says what a class needs of its session.
"""
