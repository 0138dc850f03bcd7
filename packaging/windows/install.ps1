#Requires -Version 5.1
#Requires -RunAsAdministrator
<#
.SYNOPSIS
    Installs Conductor as a Windows service, upgrades it, or removes it.
.DESCRIPTION
    Copies the program and the bundled plugins from this script's folder to Program Files, creates the folders of config,
    plugins, state and log in ProgramData, and installs and starts the service. Its account, "NT SERVICE\conductor", reads
    the config and the plugins, and writes to the state folder alone. Other users have no access to any of them.

    Run again, it upgrades the program and keeps config, plugins and state.
.PARAMETER ListenAddress
    Address to serve metrics and status on. Only for a new service.
.PARAMETER Uninstall
    Stops and removes the service and the program. Config, plugins and state stay.
.PARAMETER Purge
    With -Uninstall: removes config, plugins and state, too.
.EXAMPLE
    .\install.ps1
.EXAMPLE
    .\install.ps1 -Uninstall -Purge
#>
[CmdletBinding()]
param(
    [string] $ListenAddress = '127.0.0.1:9750',
    [switch] $Uninstall,
    [switch] $Purge
)
Set-StrictMode -Version 3.0
$ErrorActionPreference = 'Stop'

$service = 'conductor'
$account = "NT SERVICE\$service"
$programFolder = Join-Path $env:ProgramFiles 'Conductor'
$dataFolder = Join-Path $env:ProgramData 'Conductor'
$program = Join-Path $programFolder 'conductor.exe'
$config = Join-Path $dataFolder 'conductor.toml'
# By identifier, as names depend on the language of the system.
$system = '*S-1-5-18'
$administrators = '*S-1-5-32-544'
$all = '(OI)(CI)F'
$read = '(OI)(CI)RX'

# Runs a program, and throws if it fails.
function Invoke-Program {
    param([string] $File, [string[]] $Arguments)
    & $File @Arguments
    if ($LASTEXITCODE -ne 0) {
        throw "$File $($Arguments -join ' ') failed with exit code $LASTEXITCODE"
    }
}

# Creates a folder that only the named accounts can use, whatever the folder above it allows.
function New-PrivateFolder {
    param([string] $Path, [string[]] $Grants)
    New-Item -ItemType Directory -Force -Path $Path | Out-Null
    Invoke-Program icacls @($Path, '/setowner', $administrators, '/Q')
    $arguments = @($Path, '/inheritance:r', '/grant:r', "${system}:$all", "${administrators}:$all") + $Grants + '/Q'
    Invoke-Program icacls $arguments
}

$installed = [bool](Get-Service -Name $service -ErrorAction SilentlyContinue)

if ($Uninstall) {
    if ($installed) {
        Invoke-Program $program @('service', 'uninstall')
    }
    if (Test-Path $programFolder) {
        Remove-Item -Recurse -Force $programFolder
    }
    if ($Purge -and (Test-Path $dataFolder)) {
        Remove-Item -Recurse -Force $dataFolder
    }
    return
}

# Every user can create folders in ProgramData: one that another user has prepared is not trusted.
if (Test-Path $dataFolder) {
    $item = Get-Item -Force $dataFolder
    if ($item.Attributes -band [IO.FileAttributes]::ReparsePoint) {
        throw "$dataFolder is a link: remove it, then run this again"
    }
    $owner = (Get-Acl $dataFolder).GetOwner([Security.Principal.SecurityIdentifier]).Value
    if ($owner -notin 'S-1-5-18', 'S-1-5-32-544') {
        throw "$dataFolder belongs to $owner, expected Administrators: remove it, then run this again"
    }
}

if ($installed) {
    Invoke-Program $program @('service', 'stop')
}

New-Item -ItemType Directory -Force -Path $programFolder | Out-Null
foreach ($name in 'conductor.exe', 'plugins', 'drill', 'include', 'prometheus', 'grafana', 'README.md', 'CHANGELOG.md', 'LICENSE-MIT', 'LICENSE-APACHE') {
    $target = Join-Path $programFolder $name
    if (Test-Path $target) {
        Remove-Item -Recurse -Force $target
    }
    Copy-Item -Recurse -Force (Join-Path $PSScriptRoot $name) $target
}

# The host trusts libraries of Administrators, and of no other user.
Invoke-Program icacls @($programFolder, '/setowner', $administrators, '/T', '/Q')

# First for administrators alone: the service's account exists once the service is installed.
New-PrivateFolder $dataFolder @()
if (-not (Test-Path $config)) {
    $text = Get-Content -Raw -Encoding UTF8 (Join-Path $PSScriptRoot 'conductor.toml')
    $text = $text.Replace('@PROGRAM@', $programFolder)
    [IO.File]::WriteAllText($config, $text)
}
if (-not $installed) {
    Invoke-Program $program @('service', 'install', "--config.file=$config", "--web.listen-address=$ListenAddress")
}
New-PrivateFolder $dataFolder @("${account}:$read")
New-PrivateFolder (Join-Path $dataFolder 'plugins') @("${account}:$read")
New-PrivateFolder (Join-Path $dataFolder 'state') @("${account}:$all")

Invoke-Program $program @('service', 'start')
Invoke-Program $program @('service', 'status')
