"""Which attributes a condition may ask for: those by which studies are routed, none that says whose they are.

The list is table E.1-1 of DICOM PS3.15 (attributes that the basic confidentiality profile removes or replaces), but for
``ROUTING``; names of people and moments are known by their value representation. What is no DICOM keyword (private
attributes, which the profile removes too) is not seen either. Next: condition_values.py, conditions.py (who ask).
"""

from __future__ import annotations

import functools

from pydicom.datadict import dictionary_VR, tag_for_keyword

OURS = frozenset(
    {"Orientation", "NumberOfInstances", "NumberOfSeries", "Order", "Priority", "ProcedureCode", "ProcedureText",
     "ProcedureSystem"}
)  # fmt: skip
"""What the router itself adds to a study, a series or an order (intake/facts.py, rules.py)."""
_ROUTING = (
    "StationName StationAETitle DeviceSerialNumber DeviceDescription DetectorID GantryID GeneratorID "
    "CassetteID PlateID XRayDetectorID XRaySourceID TransducerIdentificationSequence InstitutionName "
    "InstitutionalDepartmentName InstitutionalDepartmentTypeCodeSequence InstitutionCodeSequence "
    "PatientSex PatientAge PatientSize PatientWeight StudyDescription SeriesDescription ProtocolName "
    "RequestedProcedureDescription PerformedProcedureStepDescription ScheduledProcedureStepDescription "
    "AcquisitionProtocolDescription AcquisitionDeviceProcessingDescription AcquisitionFieldOfViewLabel "
    "DerivationDescription ContrastBolusAgent RequestedContrastAgent RequestAttributesSequence "
    "TreatmentSite StudyDate"
)
ROUTING = frozenset(_ROUTING.split())
"""In the table, and seen all the same, as its options let a receiver keep them: the device and the institution, the
patient's sex, age, size and weight, the words of the protocol, which say what was scanned and not of whom, and the day
of the study, by which a route leaves old studies unread while an archive is migrated."""
KINDS = frozenset({"PN", "DA", "DT", "TM"})
"""Value representations that are never seen: names of people, dates and times."""


def seen(keyword: str) -> bool:
    """Whether a condition may see an attribute of this name."""
    return keyword in OURS or (_is_keyword(keyword) and not identifies(keyword))


@functools.lru_cache(maxsize=4096)
def identifies(keyword: str) -> bool:
    """Whether an attribute says, or helps to say, whose images these are."""
    if keyword in IDENTIFYING:
        return True
    return keyword not in ROUTING and _is_keyword(keyword) and dictionary_VR(tag_for_keyword(keyword) or 0) in KINDS


@functools.lru_cache(maxsize=4096)
def _is_keyword(name: str) -> bool:
    return bool(name) and tag_for_keyword(name) is not None


_IDENTIFYING = (
    "AccessionNumber AcquisitionComments AcquisitionContextDescription AcquisitionContextSequence AcquisitionUID "
    "ActualHumanPerformersSequence AdditionalPatientHistory AddressTrial AdmissionID AdmittingDiagnosesCodeSequence "
    "AdmittingDiagnosesDescription AffectedSOPInstanceUID Allergies AnnotationGroupDescription AnnotationGroupLabel "
    "AnnotationGroupUID Arbitrary AuthorObserverSequence BarcodeValue BeamDescription BolusDescription "
    "BranchOfService CameraOwnerName CertificateOfSigner CertifiedTimestamp ChannelDerivationDescription ChannelLabel "
    "ClinicalTrialCoordinatingCenterName ClinicalTrialProtocolEthicsCommitteeApprovalNumber "
    "ClinicalTrialProtocolEthicsCommitteeName ClinicalTrialProtocolID ClinicalTrialProtocolName "
    "ClinicalTrialSeriesDescription ClinicalTrialSeriesID ClinicalTrialSiteID ClinicalTrialSiteName "
    "ClinicalTrialSponsorName ClinicalTrialSubjectID ClinicalTrialSubjectReadingID ClinicalTrialTimePointDescription "
    "ClinicalTrialTimePointID CommentsOnRadiationDose CommentsOnThePerformedProcedureStep CompensatorDescription "
    "ConcatenationUID ConceptualVolumeCombinationDescription ConceptualVolumeDescription ConceptualVolumeUID "
    "ConfidentialityConstraintOnPatientDataDescription ConstituentConceptualVolumeUID "
    "ConsultingPhysicianIdentificationSequence ContainerComponentID ContainerDescription ContainerIdentifier "
    "ContentCreatorIdentificationCodeSequence ContentSequence ContributionDescription CountryOfResidence "
    "CurrentPatientLocation CustodialOrganizationSequence DataSetTrailingPadding DecompositionDescription "
    "DestinationAE DeviceAlternateIdentifier DeviceLabel DeviceSettingDescription DeviceUID DigitalSignatureUID "
    "DigitalSignaturesSequence DimensionOrganizationUID DischargeDiagnosisDescription DisplacementReferenceLabel "
    "DistributionAddress DoseReferenceDescription DoseReferenceUID DosimetricObjectiveUID EncapsulatedDocument "
    "EntityDescription EntityLabel EntityLongLabel EntityName EquipmentFrameOfReferenceDescription EthnicGroup "
    "EthnicGroupCodeSequence FailedSOPInstanceUIDList FiducialUID FillerOrderNumberImagingServiceRequest "
    "FilterLookupTableDescription FixationDeviceDescription FlowIdentifier FlowIdentifierSequence "
    "FractionGroupDescription FractionationNotes FrameComments FrameOfReferenceUID FrameOriginTimestamp GPSAltitude "
    "GPSAltitudeRef GPSAreaInformation GPSDOP GPSDestBearing GPSDestBearingRef GPSDestDistance GPSDestDistanceRef "
    "GPSDestLatitude GPSDestLatitudeRef GPSDestLongitude GPSDestLongitudeRef GPSDifferential GPSImgDirection "
    "GPSImgDirectionRef GPSLatitude GPSLatitudeRef GPSLongitude GPSLongitudeRef GPSMapDatum GPSMeasureMode "
    "GPSProcessingMethod GPSSatellites GPSSpeed GPSSpeedRef GPSStatus GPSTrack GPSTrackRef GPSVersionID "
    "GraphicAnnotationSequence HardcopyCreationDeviceID HumanPerformerOrganization IconImageSequence "
    "IdentifyingComments ImageComments ImagePresentationComments ImagingServiceRequestComments Impressions "
    "InstanceCreatorUID InstanceOriginStatus InstitutionAddress InsurancePlanIdentification "
    "IntendedRecipientsOfResultsIdentificationSequence InterlockDescription InterlockOriginDescription "
    "InterpretationApproverSequence InterpretationDiagnosisDescription InterpretationID InterpretationIDIssuer "
    "InterpretationText IrradiationEventUID IssuerOfAdmissionID IssuerOfAdmissionIDSequence "
    "IssuerOfClinicalTrialProtocolID IssuerOfClinicalTrialSeriesID IssuerOfClinicalTrialSiteID "
    "IssuerOfClinicalTrialSubjectID IssuerOfClinicalTrialSubjectReadingID IssuerOfClinicalTrialTimePointID "
    "IssuerOfPatientID IssuerOfServiceEpisodeID IssuerOfServiceEpisodeIDSequence "
    "IssuerOfTheContainerIdentifierSequence IssuerOfTheSpecimenIdentifierSequence LabelText "
    "LargePaletteColorLookupTableUID LensMake LensModel LensSerialNumber LensSpecification LongDeviceDescription MAC "
    "MakerNote ManufacturerDeviceClassUID ManufacturerDeviceIdentifier MediaStorageSOPInstanceUID MedicalAlerts "
    "MedicalRecordLocator MilitaryRank ModifiedAttributesSequence ModifiedImageDescription ModifyingDeviceID "
    "ModifyingSystem MultienergyAcquisitionDescription MultiplexGroupLabel MultiplexGroupUID NetworkID "
    "NonconformingDataElementValue NonconformingModifiedAttributesSequence ObservationSubjectUIDTrial ObservationUID "
    "Occupation OperatorIdentificationSequence OrderCallbackPhoneNumber OrderCallbackTelecomInformation "
    "OrderEntererLocation OriginalAttributesSequence Originator OtherClinicalTrialProtocolIDsSequence OtherPatientIDs "
    "OtherPatientIDsSequence PaletteColorLookupTableUID ParticipantSequence PatientAddress PatientComments PatientID "
    "PatientInstitutionResidence PatientInsurancePlanCodeSequence PatientPrimaryLanguageCodeSequence "
    "PatientPrimaryLanguageModifierCodeSequence PatientReligiousPreference PatientSetupPhotoDescription "
    "PatientSetupUID PatientSexNeutered PatientState PatientTelecomInformation PatientTelephoneNumbers "
    "PatientTransportArrangements PatientTreatmentPreparationMethodDescription "
    "PatientTreatmentPreparationProcedureParameterDescription PerformedLocation PerformedProcedureStepID "
    "PerformedStationAETitle PerformedStationGeographicLocationCodeSequence PerformedStationName "
    "PerformedStationNameCodeSequence PerformingPhysicianIdentificationSequence PersonAddress "
    "PersonIdentificationCodeSequence PersonTelecomInformation PersonTelephoneNumbers "
    "PhysiciansOfRecordIdentificationSequence PhysiciansReadingStudyIdentificationSequence "
    "PlacerOrderNumberImagingServiceRequest PositionAcquisitionTemplateDescription PositionAcquisitionTemplateName "
    "PreMedication PregnancyStatus PrescriptionDescription PrescriptionNotes PrescriptionNotesSequence "
    "PresentationDisplayCollectionUID PresentationSequenceCollectionUID PriorTreatmentDoseDescription "
    "PyramidDescription PyramidLabel PyramidUID ROICreatorSequence ROIDescription ROIGenerationDescription "
    "ROIInterpreterSequence ROIName ROIObservationDescription ROIObservationLabel RTAccessoryDeviceSlotID "
    "RTAccessoryHolderSlotID RTPhysicianIntentNarrative RTPlanDescription RTPlanLabel RTPlanName RTPrescriptionLabel "
    "RTToleranceSetLabel RTTreatmentApproachLabel RTTreatmentPhaseUID RadiationDoseIdentificationLabel "
    "RadiationDoseInVivoMeasurementLabel RadiationGenerationModeDescription RadiationGenerationModeLabel "
    "ReasonForOmissionDescription ReasonForRequestedProcedureCodeSequence ReasonForStudy ReasonForSuperseding "
    "ReasonForTheAttributeModification ReasonForTheImagingServiceRequest ReasonForTheRequestedProcedure "
    "ReasonForVisit ReasonForVisitCodeSequence ReceivingAE ReferencedConceptualVolumeUID "
    "ReferencedDigitalSignatureSequence ReferencedDoseReferenceUID ReferencedDosimetricObjectiveUID "
    "ReferencedFiducialsUID ReferencedFrameOfReferenceUID "
    "ReferencedGeneralPurposeScheduledProcedureStepTransactionUID ReferencedImageSequence "
    "ReferencedObservationUIDTrial ReferencedPatientAliasSequence ReferencedPatientPhotoSequence "
    "ReferencedPatientSequence ReferencedPerformedProcedureStepSequence ReferencedSOPInstanceMACSequence "
    "ReferencedSOPInstanceUID ReferencedSOPInstanceUIDInFile ReferencedStudySequence "
    "ReferencedTreatmentPositionGroupUID ReferringPhysicianAddress ReferringPhysicianIdentificationSequence "
    "ReferringPhysicianTelephoneNumbers RegionOfResidence RelatedFrameOfReferenceUID RequestedProcedureComments "
    "RequestedProcedureID RequestedProcedureLocation RequestedSOPInstanceUID RequestedSeriesDescription RequestingAE "
    "RequestingService RespiratoryMotionCompensationTechniqueDescription ResponsibleOrganization ResultsComments "
    "ResultsDistributionListSequence ResultsID ResultsIDIssuer RetrieveAETitle SOPInstanceUID "
    "ScheduledHumanPerformersSequence ScheduledPatientInstitutionResidence "
    "ScheduledPerformingPhysicianIdentificationSequence ScheduledProcedureStepID ScheduledProcedureStepLocation "
    "ScheduledStationAETitle ScheduledStationGeographicLocationCodeSequence ScheduledStationName "
    "ScheduledStationNameCodeSequence ScheduledStudyLocation ScheduledStudyLocationAETitle SecondaryCaptureDeviceID "
    "SelectorAEValue SelectorASValue SelectorLOValue SelectorLTValue SelectorOBValue SelectorSHValue SelectorSTValue "
    "SelectorUNValue SelectorURValue SelectorUTValue SeriesInstanceUID ServiceEpisodeDescription ServiceEpisodeID "
    "SetupTechniqueDescription ShieldingDeviceDescription SlideIdentifier SmokingStatus SourceConceptualVolumeUID "
    "SourceFrameOfReferenceUID SourceIdentifier SourceImageSequence SourceManufacturer SourceOfPreviousValues "
    "SourceSerialNumber SpecialNeeds SpecimenAccessionNumber SpecimenDetailedDescription SpecimenIdentifier "
    "SpecimenPreparationSequence SpecimenShortDescription SpecimenUID StorageMediaFileSetUID StructureSetDescription "
    "StructureSetLabel StructureSetName StudyComments StudyID StudyIDIssuer StudyInstanceUID "
    "SynchronizationFrameOfReferenceUID TableTopPositionAlignmentUID TargetUID TelephoneNumberTrial "
    "TemplateExtensionCreatorUID TemplateExtensionOrganizationUID TextComments TextString TimezoneOffsetFromUTC "
    "TopicAuthor TopicKeywords TopicSubject TopicTitle TrackingUID TransactionUID TreatmentMachineName "
    "TreatmentPositionGroupLabel TreatmentPositionGroupUID TreatmentSessionUID TreatmentSites TreatmentTechniqueNotes "
    "TreatmentToleranceViolationDescription UDISequence UID UnformattedTextValue UniqueDeviceIdentifier "
    "UserContentLabel UserContentLongLabel VerbalSourceIdentifierCodeSequenceTrial "
    "VerifyingObserverIdentificationCodeSequence VerifyingObserverSequence VerifyingOrganization VisitComments "
    "WaveformAnnotationSequence WaveformFilterDescription XRayDetectorLabel"
)
IDENTIFYING = frozenset(_IDENTIFYING.split())
"""Table E.1-1 (PS3.15, 2026c) without ``ROUTING`` and without what ``KINDS`` knows."""
