"""`ayaz monitor`: a technician's live view in the terminal.

    feeds.py     where frames come from: the bus itself, or a log at its own pace
    traffic.py   what comes on each channel: counts, rates, periods and load per identifier
    faults.py    J1939 trouble codes and names
    bus.py       the model: the real core, its traffic; `picture` is all that a view may see
    fleet.py     the model of `--depot`: what the buses say over MQTT; fleet_view.py
    views.py     pictures into lines (battery_view.py, faults_view.py are two of them); text.py: numbers for people
    search.py    finding, sorting and scrolling in long lists
    page.py      lines of styled text that fit, in UTF-8 or ASCII
    terminal.py  keys in, changed lines out; the terminal is restored whatever happens
    command.py   the loop and the options

A view is a function of a picture and of what keys were pressed; nothing in it reads a clock.
"""
